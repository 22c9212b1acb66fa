/* metrics.js -- the daemon's /metrics, read and compared with the reading before. */
import { request } from './api.js';

/** Prometheus text -> Map of name to [{labels, value}]. */
export function parse(text) {
    const families = new Map();
    for (const line of text.split('\n')) {
        const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
        if (!found || line.startsWith('#')) continue;
        const labels = {};
        for (const [, key, value] of (found[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
            labels[key] = value.replace(/\\(.)/g, '$1');
        if (!families.has(found[1])) families.set(found[1], []);
        families.get(found[1]).push({ labels, value: Number(found[3]) });
    }
    return families;
}

/** One value: the sum over all rows of a name, or those whose labels pass. */
export const value = (families, name, pass = () => true) =>
    (families.get(name) ?? [])
        .filter((row) => pass(row.labels))
        .reduce((sum, row) => sum + row.value, 0);

/** The q-quantile of what a histogram counted between two readings; null: nothing. */
export function quantile(before, after, name, q) {
    const of = (families) =>
        new Map(
            (families?.get(`${name}_bucket`) ?? [])
                .filter((r) => (r.labels.class ?? 'ask') === 'ask')
                .map((r) => [Number(r.labels.le === '+Inf' ? Infinity : r.labels.le), r.value]),
        );
    const then = of(before);
    const buckets = [...of(after)]
        .map(([le, n]) => [le, n - (then.get(le) ?? 0)])
        .sort((a, b) => a[0] - b[0]);
    const total = buckets.at(-1)?.[1] ?? 0;
    if (total <= 0) return null;
    let below = 0,
        from = 0;
    for (const [le, n] of buckets) {
        if (n >= q * total)
            return le === Infinity
                ? from
                : from + ((le - from) * (q * total - below)) / Math.max(n - below, 1);
        below = n;
        from = le;
    }
    return from;
}

export async function read(signal) {
    const response = await request('GET', '/metrics', undefined, { signal });
    return { at: performance.now() / 1000, families: parse(await response.text()) };
}

/* quality.js -- how good the model is, by its own count, and how busy the daemon: live. */
import { get, modelPath } from './api.js';
import { fill, h, noModel, problem, put } from './dom.js';
import { bytes, count } from './format.js';
import {
    accuracyLine,
    confusions,
    drift,
    reliability,
    riskLine,
    tiles,
    trafficLines,
} from './panels.js';
import { quantile, read, value } from './metrics.js';

const READ_MS = 2000,
    KEPT = 300;

function show(main, view) {
    const { model, signal } = view;
    if (!model) {
        put(main, noModel());
        return;
    }
    const now = { report: null, history: [], traffic: [], reading: null };
    const head = h('div'),
        moved = h('div'),
        mixed = h('div'),
        machine = h('p.meta');
    const good = [accuracyLine(now, signal), reliability(now, signal), riskLine(now, signal)];
    const busy = trafficLines(now, signal);

    async function measure() {
        now.report = await get(modelPath(model.name, '/evaluation'), { signal });
        const part = now.report.sets
            ? {
                  fading: now.report.sets.exact_match_fading,
                  window: now.report.sets.exact_match_window,
              }
            : {
                  fading: now.report.prequential?.all.accuracy_fading ?? null,
                  window: now.report.prequential?.all.accuracy_window ?? null,
              };
        now.history.push({ at: Date.now(), version: now.report.version, ...part });
        now.history.splice(0, now.history.length - KEPT);
        fill(head, tiles(now.report));
        fill(moved, drift(now.report));
        fill(mixed, confusions(now.report));
        good.forEach((c) => c.draw());
    }

    async function traffic() {
        const before = now.reading,
            after = (now.reading = await read(signal));
        const f = after.families;
        fill(
            machine,
            [
                `${count(value(f, 'learnd_connections'))} connections`,
                `${count(value(f, 'learnd_queue_texts'))} texts waiting`,
                `${bytes(value(f, 'process_resident_memory_bytes'))} of memory`,
                `${count(value(f, 'learnd_swaps_total'))} versions published`,
            ].join(' · '),
        );
        if (!before) return;
        const each = (key, pass) =>
            Math.max(0, value(f, key, pass) - value(before.families, key, pass)) /
            (after.at - before.at);
        const q = (x) => quantile(before.families, f, 'learnd_request_seconds', x);
        now.traffic.push({
            at: Date.now(),
            answers: each('learnd_requests_total'),
            texts: each('learnd_texts_total'),
            refused: each('learnd_answers_total', (l) => l.status >= '400'),
            p50: q(0.5),
            p95: q(0.95),
            p99: q(0.99),
        });
        now.traffic.splice(0, now.traffic.length - KEPT);
        busy.forEach((c) => c.draw());
    }

    let stale = true;
    async function turn() {
        if (signal.aborted) return;
        if (!document.hidden) {
            const mine = stale;
            stale = false;
            await Promise.all([
                traffic().catch(() => {}),
                mine
                    ? measure().catch((error) => {
                          if (error.name !== 'AbortError') fill(head, problem(error));
                      })
                    : null,
            ]);
        }
        setTimeout(turn, READ_MS);
    }
    view.on('swap', (e) => {
        if (e.model === model.name) stale = true;
    });
    view.on('drift', (e) => {
        if (e.model === model.name) stale = true;
    });
    setTimeout(function late() {
        /* questions change figures too, and are no event */
        stale = true;
        if (!signal.aborted) setTimeout(late, 10 * READ_MS);
    }, 10 * READ_MS);

    put(
        main,
        h('div.head', h('h1', 'Quality'), machine),
        head,
        h(
            'div.charts',
            good[0].node,
            busy[0].node,
            good[1].node,
            busy[1].node,
            good[2].node,
            h('section.card', h('h2', 'Taken for each other'), mixed),
        ),
        h('section.card', h('h2', 'Has something moved?'), moved),
    );
    [...good, ...busy].forEach((c) => c.draw());
    turn();
}

export const quality = { id: 'quality', title: 'Quality', key: 'q', role: 'predict', show };

/* figures.js -- charts: Chart.js with our colours, and a table of the same numbers for those who do
 * not see it. The library is loaded when the first chart is.
 */
import { fill, h, table } from './dom.js';
import { changes } from './state.js';

let library = null;

function load() {
    library ??= import('./chart.js').then(() => {
        const { Chart } = globalThis;
        Chart.defaults.animation = false;
        Chart.defaults.maintainAspectRatio = false;
        Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
        Chart.defaults.font.size = 12;
        return Chart;
    });
    return library;
}

const colour = (variable) =>
    getComputedStyle(document.documentElement).getPropertyValue(variable).trim();

/** The colours of a chart, as the theme has them now. */
export const palette = () => ({
    ink: colour('--ink'),
    muted: colour('--muted'),
    line: colour('--line'),
    accent: colour('--accent'),
    second: colour('--chart-2'),
    third: colour('--chart-3'),
    bad: colour('--bad'),
    wash: colour('--accent-wash'),
});

function axes(scales, p) {
    for (const scale of Object.values(scales)) {
        scale.ticks = { color: p.muted, maxTicksLimit: 7, ...scale.ticks };
        scale.grid = { color: p.line, drawBorder: false, tickLength: 4, ...scale.grid };
        if (scale.title) scale.title = { display: true, color: p.muted, ...scale.title };
    }
    return scales;
}

/**
 * A chart that can be drawn again with other numbers.
 * @param {{title: string, note?: string, make: (p: object) => object, columns: string[],
 *   rows: () => string[][], says: () => string, signal: AbortSignal}} how
 *   make gives Chart.js its {type, data, options: {scales, …}}, rows the table, says a sentence
 */
export function chart({ title, note, make, columns, rows, says, signal, tall = false }) {
    const canvas = h('canvas', { role: 'img' });
    const place = h('div');
    const details = h('details.as-table', h('summary', 'As a table'), place);
    const node = h(
        'figure.card.chart',
        h('figcaption', h('h2', title), note ? h('p.hint', note) : null),
        h('div', { class: `canvas ${tall ? 'tall' : ''}` }, canvas),
        details,
    );
    let drawn = null;

    const config = () => {
        const p = palette();
        const { type, data, options } = make(p);
        axes(options.scales ?? {}, p);
        return {
            type,
            data,
            options: {
                ...options,
                plugins: {
                    legend: {
                        display: data.datasets.length > 1,
                        position: 'bottom',
                        labels: {
                            color: p.muted,
                            boxWidth: 12,
                            boxHeight: 2,
                            filter: (item) => item.text !== '',
                        },
                    },
                    tooltip: { displayColors: false, ...options.tooltip },
                    ...options.plugins,
                },
            },
        };
    };
    async function draw() {
        canvas.setAttribute('aria-label', `${title}. ${says()}`);
        if (details.open) fill(place, table(`${title}, as a table`, columns, rows()));
        const Chart = await load();
        if (signal.aborted) return;
        const fresh = config();
        if (!drawn) {
            drawn = new Chart(canvas, fresh);
            return;
        }
        drawn.data.labels = fresh.data.labels;
        fresh.data.datasets.forEach((set, i) => {
            drawn.data.datasets[i] = Object.assign(drawn.data.datasets[i] ?? {}, set);
        });
        drawn.data.datasets.length = fresh.data.datasets.length;
        drawn.options = fresh.options;
        drawn.update('none');
    }
    details.addEventListener('toggle', draw);
    changes.addEventListener('theme', draw, { signal });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw, { signal });
    signal.addEventListener('abort', () => drawn?.destroy());
    return { node, draw };
}

/** A line of a chart. */
export const line = (label, data, color, more = {}) => ({
    label,
    data,
    borderColor: color,
    backgroundColor: color,
    borderWidth: 2,
    pointRadius: data.length === 1 ? 3 : 0,
    pointHitRadius: 8,
    tension: 0.2,
    clip: 8,
    ...more,
});

/** A line for each [label, key, color] of the same rows, over `x` of a row where it is named. */
export const lines = (rows, each, { x, ...more } = {}) =>
    each.map(([label, key, color]) =>
        line(
            label,
            rows.map((r) => (x ? { x: r[x], y: r[key] } : r[key])),
            color,
            more,
        ),
    );

/* labels.js -- the labels of a model: how many examples, how well they are found, and what may become
 * of them. */
import { get, modelPath, post } from './api.js';
import { empty, failed, field, fill, h, name, noModel, problem, put, toast } from './dom.js';
import { count, percent, plural } from './format.js';
import { showLabel } from './label.js';
import { labelsOf } from './known.js';
import { may, refreshModel } from './state.js';

const COLUMNS = [
    { id: 'label', title: 'Label', of: (r) => r.label.toLocaleLowerCase() },
    { id: 'examples', title: 'Examples', num: true, of: (r) => r.examples },
    { id: 'recall', title: 'Recall', num: true, of: (r) => r.recall ?? -1 },
    { id: 'precision', title: 'Precision', num: true, of: (r) => r.precision ?? -1 },
    { id: 'score_min', title: 'Threshold', num: true, of: (r) => r.score_min ?? -1 },
    { id: 'status', title: 'Status', of: (r) => r.status },
];

/** Recall and precision by label: of stored examples without themselves, else of corrections. */
async function figuresOf(model, signal) {
    const report = await get(modelPath(model.name, '/evaluation'), { signal });
    const rows =
        report.sets?.labels ?? report.leave_one_out?.labels ?? report.prequential?.labels ?? [];
    return new Map(rows.map((r) => [r.label, r]));
}

function show(main, view) {
    const { model, signal } = view;
    if (!model) {
        put(main, noModel());
        return;
    }
    const known = labelsOf(view);
    let order = { id: 'examples', down: true },
        figures = new Map(),
        merged = false;
    const body = h('tbody');
    const heads = h('tr');
    const filter = h('input', {
        type: 'search',
        placeholder: 'find a label …',
        'aria-label': 'Find a label',
        autocomplete: 'off',
        spellcheck: 'false',
    });
    const place = h('div');
    const summary = h('p.meta');

    function rows() {
        const want = filter.value.trim().toLocaleLowerCase();
        const column = COLUMNS.find((c) => c.id === order.id);
        return known.rows
            .filter(
                (r) =>
                    (merged || r.status !== 'merged') &&
                    [r.label, ...r.aliases].some((n) => n.toLocaleLowerCase().includes(want)),
            )
            .map((r) => ({
                ...r,
                recall: figures.get(r.label)?.recall,
                precision: figures.get(r.label)?.precision,
            }))
            .sort((a, b) => {
                const [x, y] = [column.of(a), column.of(b)];
                return (x < y ? -1 : x > y ? 1 : 0) * (order.down ? -1 : 1);
            });
    }

    function sortBy(column) {
        order = { id: column.id, down: order.id === column.id ? !order.down : Boolean(column.num) };
        draw();
    }

    function row(r) {
        const open = () =>
            showLabel(r, view, known).then((changed) => {
                if (changed) reload();
            });
        return h(
            'tr',
            { class: r.status === 'active' ? null : 'past' },
            h(
                'th',
                { scope: 'row' },
                h('button', { type: 'button', class: 'link', onclick: open }, name(r.label)),
                r.payload === null
                    ? null
                    : h('span.chip', { title: 'Carries a payload' }, 'payload'),
                r.aliases.length > 0
                    ? h(
                          'span.aliases',
                          'also ',
                          r.aliases.map((a, i) => [i > 0 ? ', ' : '', name(a)]),
                      )
                    : null,
            ),
            h('td.num', count(r.examples)),
            h(
                'td',
                {
                    class: `num ${r.recall !== undefined && r.recall !== null && r.recall < 0.6 ? 'weak' : ''}`,
                },
                percent(r.recall),
            ),
            h('td.num', percent(r.precision)),
            h('td.num', r.score_min === null ? '–' : percent(r.score_min, 0)),
            h(
                'td',
                r.status === 'active'
                    ? ''
                    : r.status === 'merged'
                      ? ['merged into ', name(r.into ?? '')]
                      : r.status,
            ),
        );
    }

    function draw() {
        fill(
            heads,
            COLUMNS.map((c) =>
                h(
                    'th',
                    {
                        scope: 'col',
                        class: c.num ? 'num' : null,
                        'aria-sort':
                            order.id === c.id ? (order.down ? 'descending' : 'ascending') : null,
                    },
                    h(
                        'button',
                        { type: 'button', class: 'sort', onclick: () => sortBy(c) },
                        c.title,
                        order.id === c.id
                            ? h('span', { 'aria-hidden': 'true' }, order.down ? '↓' : '↑')
                            : null,
                    ),
                ),
            ),
        );
        const list = rows();
        fill(
            summary,
            known.rows.length > 0
                ? `${plural(known.names().length, 'label')} in use, ${plural(model.examples, 'example')}`
                : '',
        );
        if (known.rows.length === 0) {
            fill(
                place,
                empty(
                    'No labels yet',
                    may('annotate')
                        ? 'Add one above, or teach one in the Ask view: a correction with a new name makes its label.'
                        : 'Somebody who may teach makes them.',
                ),
            );
            return;
        }
        fill(body, list.map(row));
        fill(
            place,
            h(
                'div.scroll',
                { tabindex: '0', role: 'region', 'aria-label': 'Labels' },
                h('table.rows', h('thead', heads), body),
            ),
            list.length === 0
                ? empty('No label of this name', 'Old names are searched too.')
                : null,
        );
    }

    async function reload() {
        try {
            [figures] = await Promise.all([
                figuresOf(model, signal),
                known.refresh(),
                refreshModel(),
            ]);
            draw();
        } catch (error) {
            if (error.name !== 'AbortError') fill(place, problem(error));
        }
    }

    const added = h('input', {
        type: 'text',
        required: true,
        maxlength: 128,
        autocomplete: 'off',
        spellcheck: 'false',
        dir: 'auto',
    });
    const form = h('form.row.add', field('New label', added), h('button.primary', 'Add'));
    form.addEventListener('submit', async (event) => {
        event.preventDefault();
        try {
            const made = await post(modelPath(model.name, '/labels'), {
                label: added.value.trim(),
            });
            added.value = '';
            toast(`Label ${made.label} is there.`);
            await reload();
            added.focus();
        } catch (error) {
            failed(error);
        }
    });
    const all = h('input', {
        type: 'checkbox',
        onchange: () => {
            merged = all.checked;
            draw();
        },
    });
    filter.addEventListener('input', draw);
    put(
        main,
        h('div.head', h('h1', 'Labels'), summary),
        h(
            'div.card',
            h(
                'div.row.between.top',
                may('annotate') ? form : null,
                h('div.row', h('label.check', all, ' merged ones too'), filter),
            ),
            place,
        ),
    );
    view.keys('Labels', [
        { keys: ['/'], says: 'find a label', run: () => filter.focus() },
        ...(may('annotate')
            ? [{ keys: ['n'], says: 'add a label', run: () => added.focus() }]
            : []),
    ]);
    let timer = 0;
    const soon = () => {
        clearTimeout(timer);
        timer = setTimeout(() => {
            if (!signal.aborted) reload();
        }, 400);
    };
    view.on('swap', (e) => {
        if (e.model === model.name) soon();
    });
    view.on('label', (e) => {
        if (e.model === model.name) soon();
    });
    reload();
}

export const labels = { id: 'labels', title: 'Labels', key: 'l', role: 'predict', show };

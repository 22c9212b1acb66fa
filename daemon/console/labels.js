/* labels.js -- the labels of a model: how many examples they have, how well they are found. */
import { get, modelPath, post } from './api.js';
import {
    button,
    empty,
    failed,
    field,
    fill,
    h,
    name,
    names,
    noModel,
    problem,
    put,
    table,
    toast,
} from './dom.js';
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

const teachFirst = () =>
    empty(
        'No labels yet',
        may('annotate')
            ? 'Add one above, or teach one in the Ask view: a correction with a new name makes it.'
            : 'Somebody who may teach makes them.',
    );

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
                recall: figures.get(r.label)?.recall ?? null,
                precision: figures.get(r.label)?.precision ?? null,
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

    const open = (r) => showLabel(r, view, known).then((changed) => changed && reload());

    function row(r) {
        const state = r.status === 'merged' ? ['merged into ', name(r.into ?? '')] : r.status;
        const weak = r.recall !== null && r.recall < 0.6;
        return {
            class: r.status === 'active' ? null : 'past',
            cells: [
                [
                    button(name(r.label), () => open(r), { class: 'link', 'data-key': r.label }),
                    r.payload === null ? null : h('span.chip', 'payload'),
                    r.aliases.length > 0 ? h('span.aliases', 'also ', names(r.aliases)) : null,
                ],
                count(r.examples),
                weak ? h('span.weak', percent(r.recall)) : percent(r.recall),
                percent(r.precision),
                r.score_min === null ? '–' : percent(r.score_min, 0),
                r.status === 'active' ? '' : state,
            ],
        };
    }

    function head(c) {
        const sorted = order.id === c.id;
        const arrow = sorted ? h('span', { 'aria-hidden': 'true' }, order.down ? '↓' : '↑') : null;
        const way = order.down ? 'descending' : 'ascending';
        return h(
            'th',
            { scope: 'col', class: c.num ? 'num' : null, 'aria-sort': sorted ? way : null },
            button([c.title, arrow], () => sortBy(c), { class: 'sort', 'data-key': `by ${c.id}` }),
        );
    }

    function draw() {
        const list = rows();
        fill(summary, `${plural(known.names().length, 'label')} in use`);
        if (known.rows.length === 0) fill(place, teachFirst());
        else
            fill(
                place,
                table('Labels', COLUMNS.map(head), list.map(row)),
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

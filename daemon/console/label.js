/* label.js -- one label: its examples, and what an administrator may do with it. */
import { get, labelPath, modelPath, patch, post, remove } from './api.js';
import {
    dialog,
    empty,
    failed,
    field,
    fill,
    h,
    kbd,
    name,
    names,
    problem,
    put,
    said,
    textInput,
    toast,
} from './dom.js';
import { ago, percent, plural } from './format.js';
import { may } from './state.js';
import { typeahead } from './typeahead.js';

const EXAMPLES = 50;

/** The examples, with a box each where some of them can be split off. */
function exampleList(label, view, boxes) {
    const place = h(
        'div.examples.scroll',
        { tabindex: '0', role: 'region', 'aria-label': 'Examples' },
        h('p.muted', 'Reading …'),
    );
    let cursor = null;
    async function more() {
        const path = modelPath(
            view.model.name,
            `/examples?label=${encodeURIComponent(label.label)}&limit=${EXAMPLES}`,
        );
        const page = await get(cursor ? `${path}&cursor=${encodeURIComponent(cursor)}` : path, {
            signal: view.signal,
        });
        if (cursor === null) fill(place);
        cursor = page.next_cursor;
        place.querySelector('.more')?.remove();
        const rows = page.examples.map((e) => {
            const box = h('input', { type: 'checkbox', value: e.example });
            boxes?.add(box);
            return h(
                'li',
                h(
                    'label.check',
                    boxes ? box : null,
                    h('span', e.text === null ? 'a vector' : said(e.text)),
                ),
                h(
                    'span.meta',
                    e.status === 'active' ? '' : `${e.status} · `,
                    plural(e.annotators, 'voice'),
                    ' · ',
                    ago(e.created),
                ),
            );
        });
        const list = place.querySelector('ol') ?? place.appendChild(h('ol.plain'));
        put(list, rows);
        if (list.children.length === 0)
            fill(place, empty('No examples yet', 'Teach it some in the Ask view.'));
        if (cursor)
            put(
                place,
                h(
                    'button',
                    { type: 'button', class: 'more', onclick: () => more().catch(failed) },
                    'More',
                ),
            );
    }
    if (may('annotate'))
        more().catch((error) => {
            if (error.name !== 'AbortError') fill(place, problem(error));
        });
    else fill(place, h('p.muted', 'Examples are shown to annotators.'));
    return place;
}

/** One act of a label: a form to open, that says beside its field what went wrong. */
function act(title, controls, says, run, close) {
    const wrong = h('p.notice.bad', { role: 'alert', dir: 'auto', hidden: true });
    const form = h('form', controls, wrong, h('div.row.end', h('button', says)));
    form.addEventListener('submit', async (event) => {
        event.preventDefault();
        try {
            const done = await run();
            if (done) {
                toast(done);
                close(true);
            }
        } catch (error) {
            wrong.textContent = error.words ?? error.message;
            wrong.hidden = false;
        }
    });
    return h('details.act', { name: 'act' }, h('summary', title), form);
}

/** A field that names another label of the model. */
function target(label, known, hint) {
    const chosen = { label: null };
    const shown = h('p.chosen', { hidden: true });
    const ahead = typeahead({
        label,
        hint,
        create: false,
        names: known,
        choose: (text) => {
            chosen.label = text;
            fill(shown, '→ ', name(text));
            shown.hidden = false;
        },
    });
    return { chosen, node: h('div', ahead.node, shown) };
}

function acts(label, view, known, boxes, close) {
    const path = labelPath(view.model.name, label.label);
    const others = () => known.names().filter((n) => n !== label.label);
    const renamed = textInput({ value: label.label, required: true });
    const threshold = h('input', {
        type: 'number',
        min: 0,
        max: 1,
        step: 'any',
        value: label.score_min ?? '',
        placeholder: 'the model’s',
    });
    const payload = h('textarea', {
        rows: 3,
        spellcheck: 'false',
        dir: 'auto',
        placeholder: '{"answer": "…"}',
    });
    payload.value = label.payload === null ? '' : JSON.stringify(label.payload, null, 2);
    const into = target('Merge into', others, 'into which label …');
    const part = textInput({ required: true });
    return [
        act(
            'Rename',
            field('New name', renamed, 'The old name goes on meaning this label.'),
            'Rename',
            async () => {
                await patch(path, { label: renamed.value.trim() });
                return `Renamed to ${renamed.value.trim()}.`;
            },
            close,
        ),
        act(
            'Threshold',
            field(
                'Abstain below',
                threshold,
                'A probability from 0 to 1; empty: as the model does.',
            ),
            'Set',
            async () => {
                await patch(path, {
                    score_min: threshold.value === '' ? null : Number(threshold.value),
                });
                return 'The threshold is set.';
            },
            close,
        ),
        act(
            'Payload',
            field(
                'JSON that comes back with every answer',
                payload,
                'Up to 4 KB: an answer, an address. Empty: none.',
            ),
            'Set',
            async () => {
                let value = null;
                if (payload.value.trim() !== '') {
                    try {
                        value = JSON.parse(payload.value);
                    } catch (error) {
                        throw new Error(`This is not JSON: ${error.message}`);
                    }
                }
                await patch(path, { payload: value });
                return 'The payload is set.';
            },
            close,
        ),
        act(
            'Merge',
            [
                h(
                    'p.hint',
                    'Its examples become those of another label, and its names mean that one.',
                ),
                into.node,
            ],
            'Merge',
            async () => {
                if (!into.chosen.label) throw new Error('Choose the label to merge into.');
                await post(`${path}/merge`, { into: into.chosen.label });
                return `Merged into ${into.chosen.label}.`;
            },
            close,
        ),
        act(
            'Split',
            [
                h('p.hint', 'Tick examples on the left: they become those of this label.'),
                field('Label', part),
            ],
            'Split',
            async () => {
                const ticked = [...boxes].filter((b) => b.checked).map((b) => b.value);
                if (ticked.length === 0) throw new Error('Tick at least one example.');
                await post(`${path}/split`, { label: part.value.trim(), examples: ticked });
                return `${plural(ticked.length, 'example')} moved to ${part.value.trim()}.`;
            },
            close,
        ),
        label.status === 'retired'
            ? act(
                  'Restore',
                  h('p.hint', 'Back into answers and teaching, with all its examples.'),
                  'Restore',
                  async () => {
                      await patch(path, { status: 'active' });
                      return 'It is back.';
                  },
                  close,
              )
            : act(
                  'Retire',
                  h(
                      'p.hint',
                      'Out of answers and teaching; its examples are kept, and it can be restored.',
                  ),
                  'Retire',
                  async () => {
                      await remove(path);
                      return 'It is retired.';
                  },
                  close,
              ),
    ];
}

/** Shows it; resolves with whether something has changed. */
export function showLabel(label, view, known) {
    const boxes = may('admin') && label.status !== 'merged' ? new Set() : null;
    return dialog(
        label.label,
        (close) => [
            h(
                'p.meta',
                plural(label.examples, 'example'),
                ' · since ',
                ago(label.created),
                label.recall === null ? '' : ` · recall ${percent(label.recall)}`,
                label.aliases.length > 0 ? [' · also ', names(label.aliases)] : '',
            ),
            h(
                'div.two.even',
                h('section', h('h3', 'Examples'), exampleList(label, view, boxes)),
                boxes ? h('section.acts', acts(label, view, known, boxes, close)) : null,
            ),
            h(
                'div.row.end',
                h(
                    'button',
                    { type: 'button', autofocus: true, onclick: () => close() },
                    'Close ',
                    kbd('Esc'),
                ),
            ),
        ],
        { wide: true },
    );
}

/* choices.js -- the decision about one text: numbered labels and a field for the others. The
 * ask and the annotate view both end in it.
 *
 * Kind single: a number is the decision. Kind multi: numbers turn labels on and off, Enter saves
 * the set.
 */
import { fill, h, kbd, name } from './dom.js';
import { percent } from './format.js';
import { typeahead } from './typeahead.js';

const NUMBERED = 9;

/** A bar of a score, with the score beside it. */
export function bar(score, { threshold = null, tone = '' } = {}) {
    const inner = h('span.bar-fill');
    inner.style.inlineSize = `${Math.round(1000 * (score ?? 0)) / 10}%`;
    const mark = threshold ? h('span.bar-mark') : null;
    if (mark) mark.style.insetInlineStart = `${100 * threshold}%`;
    return h('span', { class: `score-bar ${tone}`, 'aria-hidden': 'true' }, inner, mark);
}

/**
 * @typedef {{label: string, score?: number, note?: string}} Row
 * @param {{kind: 'single'|'multi', scored: Row[], chosen?: string[], guess?: string|null,
 *   names: () => string[], decide: (decision: object) => void}} how
 *   decide is given {label} or {labels}, with isNew where a label is made by it
 * @returns {{node: HTMLElement, keys: object[], focusOther: () => void}}
 */
export function choices({ kind, scored, chosen = [], guess = null, names, decide }) {
    const multi = kind === 'multi';
    const set = new Set(chosen);
    const rows = scored.slice(0, NUMBERED);
    const list = h('ol.choices', { 'aria-label': multi ? 'Labels, any number' : 'Labels' });
    const save = () => decide({ labels: [...set] });

    function flip(label) {
        if (set.has(label)) set.delete(label);
        else set.add(label);
        draw();
    }
    const pickRow = (row) => (multi ? flip(row.label) : decide({ label: row.label }));

    function draw() {
        fill(
            list,
            rows.map((row, i) =>
                h(
                    'li',
                    h(
                        'button',
                        {
                            type: 'button',
                            class: `choice ${row.label === guess ? 'guess' : ''}`,
                            'data-key': row.label,
                            'aria-pressed': multi ? String(set.has(row.label)) : null,
                            onclick: () => pickRow(row),
                        },
                        kbd(i + 1),
                        multi
                            ? h(
                                  'span.tick',
                                  { 'aria-hidden': 'true' },
                                  set.has(row.label) ? '✓' : '',
                              )
                            : null,
                        name(row.label),
                        row.score === undefined
                            ? h('span.muted', row.note ?? '')
                            : [
                                  bar(row.score, { threshold: row.threshold }),
                                  h('span.num', percent(row.score)),
                              ],
                    ),
                ),
            ),
        );
    }
    draw();

    const other = typeahead({
        label: 'Another label, or a new one',
        hint: rows.length > 0 ? 'another label, or a new one …' : 'name its first label …',
        names,
        choose: (label, isNew) => {
            if (!multi) {
                decide({ label, isNew });
                return;
            }
            set.add(label);
            if (!rows.some((row) => row.label === label))
                rows.push({ label, note: isNew ? 'new' : '' });
            draw();
            list.lastChild.querySelector('button').focus();
        },
    });
    const node = h(
        'div.decision',
        rows.length > 0 ? list : null,
        h(
            'div.other',
            kbd('/'),
            other.node,
            multi
                ? h(
                      'button',
                      { type: 'button', class: 'primary', onclick: save },
                      'Save the set ',
                      kbd('↵'),
                  )
                : null,
        ),
    );
    const numbers = rows.map((_, i) => String(i + 1));
    return {
        node,
        focusOther: () => other.input.focus(),
        keys: [
            ...(numbers.length > 0
                ? [
                      {
                          keys: numbers,
                          says: multi ? 'turn this label on or off' : 'this label',
                          run: (key) => pickRow(rows[Number(key) - 1]),
                      },
                  ]
                : []),
            { keys: ['/'], says: 'another label, or a new one', run: () => other.input.focus() },
            ...(multi ? [{ keys: ['Enter'], says: 'save the set', run: save }] : []),
        ],
    };
}

/* taught.js -- what was decided on this page, newest first, and taking it back.
 *
 * Undo withdraws the vote: a vote that was alone takes its example out of the model, as if it had
 * never been given; other annotators' votes stay.
 */
import { teach } from './api.js';
import { empty, failed, fill, h, kbd, name, said, toast } from './dom.js';

const KEPT = 50;

/**
 * @param {{onUndo?: (entry: object) => void, change?: Function}} [how]
 * entries: {text, item, example, words}
 */
export function taughtList({ onUndo, change } = {}) {
    const entries = [];
    const list = h('ol.taught', { 'aria-label': 'Decided here, newest first' });
    const node = h('section.side-part', h('h2', 'Decided here'), list);
    let busy = false;

    function draw() {
        if (entries.length === 0) {
            fill(list);
            list.after(hint);
            return;
        }
        hint.remove();
        fill(
            list,
            entries.slice(0, KEPT).map((entry, i) =>
                h(
                    'li',
                    h('span.taught-text', said(entry.text.slice(0, 160))),
                    h(
                        'span.taught-what',
                        entry.words.map((w) => (typeof w === 'string' ? w : name(w.label))),
                    ),
                    h(
                        'button',
                        {
                            type: 'button',
                            class: 'quiet small',
                            'aria-label': `Undo: ${entry.text.slice(0, 60)}`,
                            onclick: () => undo(entry),
                        },
                        'Undo',
                        i === 0 ? [' ', kbd('z')] : null,
                    ),
                ),
            ),
        );
    }
    const hint = empty('Nothing yet', 'What you decide is listed here, and can be taken back.');
    draw();

    async function undo(entry = entries[0]) {
        if (busy) return;
        if (!entry) {
            toast('There is nothing to undo.');
            return;
        }
        busy = true;
        try {
            const { model, annotator } = entry.item;
            await teach({
                model,
                action: 'withdraw',
                example: entry.example,
                ...(annotator ? { annotator } : {}),
            });
            entries.splice(entries.indexOf(entry), 1);
            draw();
            toast('Taken back: as if it had never been said.');
            onUndo?.(entry);
            change?.(entries);
        } catch (error) {
            failed(error);
        } finally {
            busy = false;
        }
    }
    return {
        node,
        entries,
        undo,
        add(entry) {
            entries.unshift(entry);
            draw();
            change?.(entries);
        },
    };
}

/** A decision in words: the words are strings, labels are {label}. */
export function inWords({ action = 'label', label, labels, isNew }) {
    if (action === 'reject') return label ? ['not ', { label }] : ['not that'];
    if (labels)
        return labels.length > 0
            ? labels.flatMap((l, i) => (i > 0 ? [', ', { label: l }] : [{ label: l }]))
            : ['no label'];
    return [action === 'confirm' ? 'right: ' : isNew ? 'new label ' : '', { label }];
}

/* queues.js -- where the cards of the annotate view come from: what to label next, and what was
 * taught and may be wrong. A card: {id, text, pair, guess, scored, chosen, first}; of the second
 * queue also {example, kind, label, other, votes, twin, margin}.
 */
import { get, modelPath, post } from './api.js';
import { empty } from './dom.js';

/** Cards fetched at a time. */
export const BATCH = 20;

/** The two: how they are called, how to fetch cards, what to say when there are none. */
export const queues = {
    next: {
        title: 'Next to label',
        async fetch(model, turn, signal) {
            const page = await get(modelPath(model.name, `/next?limit=${BATCH}&seed=${turn}`), {
                signal,
            });
            return page.items.map((item) => ({
                id: item.request_id,
                text: item.text,
                pair: item.text_pair,
                why: item.why,
                created: item.created,
                guess: item.label,
                first: [],
            }));
        },
        empty: () =>
            empty(
                'Nothing waits',
                'Texts that are asked come here when labelling them would teach the most. Ask ' +
                    'some, in the Ask view or from a bot.',
            ),
    },
    review: {
        title: 'To look at again',
        async fetch(model, turn, signal) {
            const page = await get(modelPath(model.name, `/review?limit=${5 * BATCH}`), { signal });
            return page.items
                .filter((item) => item.kind !== 'influence')
                .map((item) => ({
                    id: item.example,
                    example: item.example,
                    text: item.text,
                    pair: item.text_pair,
                    kind: item.kind,
                    created: item.created,
                    votes: item.votes ?? [],
                    twin: item.twin,
                    margin: item.margin,
                    label: item.label,
                    other: item.other,
                    guess: item.label,
                    first: [
                        { label: item.label, note: 'as taught' },
                        ...(item.other ? [{ label: item.other, note: 'instead' }] : []),
                    ],
                }));
        },
        empty: () =>
            empty(
                'Nothing looks wrong',
                'When what was taught contradicts itself, or the rest of the examples, it is ' +
                    'listed here for a second look.',
            ),
    },
};

/** Adds to each card the labels that are probable now. */
export async function score(cards, model, signal) {
    if (cards.length === 0 || model.labels === 0) return;
    const inputs = cards.map((c) =>
        c.pair ? { text: c.text, text_pair: c.pair } : { text: c.text },
    );
    const whole = await post(
        '/v1/classify',
        { model: model.name, inputs, top_k: 9, explain: model.kind === 'multi', store: false },
        { signal },
    );
    cards.forEach((card, i) => {
        const { labels, label } = whole.results[i];
        const first = card.first.map((f) => f.label);
        card.scored = [
            ...card.first.map((f) => ({ ...f, ...labels.find((l) => l.label === f.label) })),
            ...labels.filter((l) => !first.includes(l.label)),
        ];
        card.chosen = labels.filter((l) => l.score >= (l.threshold ?? 2)).map((l) => l.label);
        card.guess = card.example ? card.guess : label;
    });
}

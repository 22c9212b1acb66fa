/* annotate.js -- what to label next and what to look at again, one key a decision.
 *
 * The next card is shown before the last decision is on disk: people should not wait for a disk. A
 * decision that is refused puts its card back and says why. Cards come in small batches, with the
 * present scores of their labels, so that the numbered labels are those that matter.
 */
import { teach } from './api.js';
import { choices } from './choices.js';
import { announce, empty, failed, fill, h, kbd, name, problem, put, said, toast } from './dom.js';
import { ago, percent, plural } from './format.js';
import { labelsOf } from './known.js';
import { BATCH, queues, score } from './queues.js';
import { refreshModel, signed } from './state.js';
import { inWords, taughtList } from './taught.js';

const REFILL = 4; /* cards left when more are fetched */
const WHY = {
    random: 'drawn evenly: these measure how good the model is',
    uncertain: 'the two best labels are close',
    novel: 'unlike anything taught',
    diverse: 'unlike the others in this list',
};
const KIND = {
    likely_wrong: 'may be wrong',
    contradicting: 'annotators contradict',
    duplicate: 'one text, two labels',
    influence: 'one voice',
};

function about(card) {
    if (!card.kind)
        return h(
            'p.meta',
            h('span', { class: `chip ${card.why}` }, card.why),
            ' ',
            WHY[card.why],
            ' · asked ',
            ago(card.created),
        );
    const votes = card.votes.map((v) =>
        h(
            'li',
            name(v.label),
            ': ',
            v.for.map((a) => a ?? 'no name').join(', '),
            v.against.length > 0
                ? ` · against: ${v.against.map((a) => a ?? 'no name').join(', ')}`
                : '',
        ),
    );
    return [
        h(
            'p.meta',
            h('span.chip.warn', KIND[card.kind]),
            ' taught as ',
            name(card.label),
            card.margin !== null && card.margin !== undefined && card.kind === 'likely_wrong'
                ? ` · ${percent(card.margin, 0)} more likely something else`
                : '',
        ),
        votes.length > 0
            ? h(
                  'details',
                  h('summary', plural(votes.length, 'label'), ' voted for'),
                  h('ul.plain', votes),
              )
            : null,
        card.twin
            ? h('p.meta', 'Its twin, labelled ', name(card.other ?? ''), ': ', said(card.twin.text))
            : null,
    ];
}

function show(main, view) {
    const { model, signal } = view;
    if (!model || model.encoder === 'none') {
        put(
            main,
            empty(
                model ? 'Vectors cannot be read' : 'There is no model',
                'This view is for models of texts.',
            ),
        );
        return;
    }
    const known = labelsOf(view);
    let queue = 'next',
        cards = [],
        loading = false,
        turn = 0,
        done = 0,
        began = 0,
        ended = false;
    let sent = Promise.resolve(); /* the last decision, on its way to the disk */
    const seen = new Set(); /* decided or skipped here: they do not come again */
    const taught = taughtList({
        onUndo: (entry) => {
            seen.delete(entry.card.id);
            cards.unshift(entry.card);
            done = Math.max(0, done - 1);
            drawCard();
            refreshModel().catch(failed);
        },
    });
    const place = h('section.card.stage', {
        'aria-live': 'off',
        'aria-label': 'The text to decide about',
    });
    const tabs = h('div.switch', { role: 'group', 'aria-label': 'Queue' });
    const tempo = h('p.meta.tempo');

    function drawTabs() {
        fill(
            tabs,
            Object.entries(queues).map(([id, q]) =>
                h(
                    'button',
                    {
                        type: 'button',
                        'aria-pressed': String(id === queue),
                        onclick: () => turnTo(id),
                    },
                    q.title,
                ),
            ),
        );
        const minutes = (Date.now() - began) / 60000;
        fill(
            tempo,
            done === 0
                ? 'one key a decision'
                : [
                      plural(done, 'decision'),
                      minutes > 0.2 && ` · ${Math.round(done / minutes)} a minute`,
                  ],
        );
    }

    function turnTo(id) {
        queue = id;
        cards = [];
        ended = false;
        drawTabs();
        load();
    }

    async function load() {
        if (loading || ended) return;
        loading = true;
        const mine = queue;
        if (cards.length === 0) fill(place, h('p.muted', 'Looking for texts …'));
        try {
            const have = new Set(cards.map((c) => c.id));
            const fresh = (await queues[mine].fetch(model, ++turn, signal))
                .filter((c) => !seen.has(c.id) && !have.has(c.id))
                .slice(0, BATCH);
            await score(fresh, model, signal);
            if (mine !== queue) return;
            const before = cards.length;
            cards.push(...fresh);
            ended = fresh.length === 0;
            if (before === 0) drawCard();
        } catch (error) {
            if (error.name !== 'AbortError') fill(place, problem(error));
        } finally {
            loading = false;
            if (mine !== queue) load();
        }
    }

    function drawCard() {
        drawTabs();
        const [card] = cards;
        if (!card) {
            if (!ended) {
                load();
                return;
            }
            fill(
                place,
                queues[queue].empty(),
                h(
                    'button',
                    {
                        type: 'button',
                        onclick: () => {
                            ended = false;
                            seen.clear();
                            load();
                        },
                    },
                    'Look again',
                ),
            );
            view.keys('Card', []);
            return;
        }
        const chosen = choices({
            kind: model.kind,
            scored: card.scored ?? card.first,
            chosen: card.chosen ?? [],
            guess: card.guess,
            names: known.names,
            decide: (decision) => decide(card, decision),
        });
        const multi = model.kind === 'multi';
        fill(
            place,
            h(
                'blockquote.text',
                { tabindex: '-1', id: 'card' },
                said(card.text),
                card.pair ? [h('hr'), said(card.pair)] : null,
            ),
            about(card),
            chosen.node,
            h(
                'div.row',
                card.guess && !multi
                    ? h(
                          'button',
                          { type: 'button', onclick: confirm },
                          card.example ? 'Keep ' : 'Right ',
                          kbd('y'),
                      )
                    : null,
                card.guess && !multi
                    ? h('button', { type: 'button', onclick: reject }, 'Not this label ', kbd('x'))
                    : null,
                h('button', { type: 'button', onclick: skip }, 'Skip ', kbd('s')),
                h('button', { type: 'button', onclick: undo }, 'Undo ', kbd('z')),
            ),
        );
        view.keys('Card', [
            ...chosen.keys,
            ...(card.guess && !multi
                ? [
                      {
                          keys: multi ? ['y'] : ['y', 'Enter'],
                          says: card.example ? 'keep the label' : 'the guess is right',
                          run: confirm,
                      },
                      { keys: ['x'], says: 'it is not this label', run: reject },
                  ]
                : []),
            { keys: ['s'], says: 'skip', run: skip },
        ]);
        document.getElementById('card').focus({ preventScroll: true });
        announce(`${card.text.slice(0, 300)}. ${card.guess ? `Guess: ${card.guess}` : ''}`);
    }

    const undo = () => sent.then(() => taught.undo());
    const confirm = () =>
        decide(
            cards[0],
            cards[0].example
                ? { label: cards[0].guess }
                : { action: 'confirm', label: cards[0].guess },
        );
    const reject = () => decide(cards[0], { action: 'reject', label: cards[0].guess });

    function away(card) {
        seen.add(card.id);
        cards = cards.filter((c) => c !== card);
        drawCard();
        if (cards.length < REFILL) load();
    }

    function skip() {
        if (cards[0]) away(cards[0]);
    }

    function decide(card, decision) {
        if (card && !seen.has(card.id)) sent = send(card, decision);
    }

    async function send(card, { isNew, ...decision }) {
        began ||= Date.now();
        done++;
        away(card);
        const subject = card.example
            ? { example: card.example }
            : { text: card.text, ...(card.pair ? { text_pair: card.pair } : {}) };
        const item = signed({ model: model.name, ...subject, ...decision });
        try {
            const accepted = await teach(item, { wait: 'durable' });
            taught.add({
                card,
                text: card.text,
                item,
                example: accepted.example,
                words: inWords({ ...decision, isNew }),
            });
            if (isNew) {
                known.refresh();
                toast('Learned, with a new label.');
            }
        } catch (error) {
            failed(error);
            done--;
            seen.delete(card.id);
            if (!signal.aborted) {
                cards.unshift(card);
                drawCard();
            }
        }
    }

    put(
        main,
        h('div.head', h('h1', 'Annotate'), tabs, tempo),
        h('div.two', place, h('aside.side', h('div.card', taught.node))),
    );
    view.keys('Annotate', [
        { keys: ['z'], says: 'undo the last decision', run: undo },
        {
            keys: ['q'],
            says: 'the other queue',
            run: () => turnTo(queue === 'next' ? 'review' : 'next'),
        },
    ]);
    drawTabs();
    load();
}

export const annotate = { id: 'annotate', title: 'Annotate', key: 'n', role: 'annotate', show };

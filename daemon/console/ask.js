/* ask.js -- ask about one text, see why, correct it with one key. */
import { labelsOf } from './known.js';
import { post, remove, teach } from './api.js';
import { bar, choices } from './choices.js';
import {
    announce,
    direction,
    empty,
    failed,
    fill,
    h,
    kbd,
    name,
    noModel,
    problem,
    put,
    said,
    table,
    toast,
    undone,
} from './dom.js';
import { duration, figure, percent, plural } from './format.js';
import { refreshModel, may, signed } from './state.js';
import { inWords, taughtList } from './taught.js';

const VOTES = {
    ridge: 'regression',
    lda: 'class centres',
    count: 'how often',
    prototype: 'prototype',
    nearest: 'nearest examples',
};

/** What was typed, as an input: a text, or the vector that a model without encoder takes. */
export function inputOf(typed, model) {
    if (model.encoder !== 'none') return { text: typed };
    let vector;
    try {
        vector = JSON.parse(typed);
    } catch {
        vector = null;
    }
    if (!Array.isArray(vector))
        throw new Error(`This model takes vectors: type ${model.dim} numbers as [0.1, -0.2, …].`);
    return { vector };
}

function verdict(result, model) {
    const chips = [];
    if (result.abstain)
        chips.push(
            h('span.chip.warn', { title: 'A bot should treat this as "I do not know".' }, 'unsure'),
        );
    else if (result.label !== null) chips.push(h('span.chip.good', 'sure enough'));
    if (result.novel)
        chips.push(h('span.chip.warn', { title: 'Unlike anything that was taught.' }, 'novel'));
    if (result.truncated)
        chips.push(
            h(
                'span.chip',
                { title: 'Longer than the encoder reads: the end was left out.' },
                'cut',
            ),
        );
    const several =
        model.kind === 'multi' ? result.labels.filter((l) => l.score >= (l.threshold ?? 2)) : [];
    const title =
        several.length > 0
            ? several.map((l, i) => [i > 0 ? ', ' : '', name(l.label)])
            : result.label === null
              ? model.labels > 0
                  ? 'no label'
                  : 'no labels yet'
              : name(result.label);
    return h(
        'div.verdict',
        h('h2', { tabindex: '-1', id: 'answer' }, title),
        h('div.chips', chips),
        result.score === null
            ? null
            : h(
                  'div.verdict-score',
                  bar(result.score, { tone: result.abstain ? 'unsure' : '' }),
                  h('span.num.big', percent(result.score)),
              ),
    );
}

function because(result) {
    const rows = result.because ?? [];
    if (rows.length === 0)
        return empty('No example is near', 'The nearest stored examples stand here and say why.');
    return h(
        'ol.because',
        rows.map((row) =>
            h(
                'li',
                h('p', row.text === null ? h('span.muted', 'a vector') : said(row.text)),
                h(
                    'p.meta',
                    row.label === null ? 'rejected' : name(row.label),
                    ' · ',
                    h('span.num', figure(row.similarity, 2)),
                    ' alike',
                ),
            ),
        ),
    );
}

function votes(result) {
    const rows = result.labels.filter((l) => l.votes).slice(0, 5);
    if (rows.length === 0) return null;
    return h(
        'details',
        h('summary', 'How the scores came about'),
        h('p.hint', 'What each of five scores gives to a label; their sum is its logit.'),
        table(
            'Votes of the five scores',
            ['Label', ...Object.values(VOTES).map((v) => `#${v}`)],
            rows.map((l) => [
                name(l.label),
                ...Object.keys(VOTES).map((v) => figure(l.votes[v], 2)),
            ]),
        ),
    );
}

function show(main, view) {
    const { model, signal } = view;
    if (!model) {
        put(main, noModel());
        return;
    }
    const known = labelsOf(view);
    const taught = taughtList({ onUndo: () => refreshModel().catch(failed) });
    const answer = h('section.answer', { 'aria-label': 'Answer' });
    const why = h(
        'section.side-part',
        h('h2', 'Why'),
        empty('Ask first', 'The nearest stored examples stand here and say why.'),
    );
    const text = h('textarea', {
        id: 'text',
        rows: 3,
        placeholder: model.encoder === 'none' ? '[0.12, -0.4, …]' : 'where is my card?',
        spellcheck: 'false',
    });
    const button = h('button.primary', 'Ask ', kbd('↵'));
    let asked = null; /* {input, text, result} that the keys are about */
    let mine = 0; /* which answer is the newest */

    async function ask({ focus = true } = {}) {
        const typed = text.value;
        if (typed.trim() === '') {
            text.focus();
            return;
        }
        const turn = ++mine;
        button.disabled = true;
        try {
            const input = inputOf(typed, model);
            const whole = await post(
                '/v1/classify',
                { model: model.name, inputs: [input], top_k: 9, explain: true },
                { signal },
            );
            if (turn !== mine) return;
            asked = { input, text: typed, result: whole.results[0] };
            drawAnswer(whole);
            if (focus) document.getElementById('answer')?.focus();
        } catch (error) {
            if (error.name === 'AbortError') return;
            asked = null;
            view.keys('Answer', []);
            fill(answer, problem(error));
        } finally {
            button.disabled = false;
        }
    }

    function drawAnswer(whole) {
        const { result } = asked;
        const spent = duration(whole.timing_ms.total / 1000);
        const spoken =
            result.label === null ? 'no label' : `${result.label}, ${percent(result.score, 0)}`;
        announce(`${spoken}${result.abstain ? ', unsure' : ''}${result.novel ? ', novel' : ''}`);
        fill(
            answer,
            verdict(result, model),
            h(
                'p.meta',
                [`version ${whole.version}`, plural(result.tokens, 'token'), spent].join(' · '),
            ),
            result.payload === undefined
                ? null
                : h(
                      'details',
                      { open: true },
                      h('summary', 'Payload of the label'),
                      h('pre', { dir: 'auto' }, JSON.stringify(result.payload, null, 2)),
                  ),
        );
        fill(why, h('h2', 'Why'), because(result), votes(result));
        if (may('annotate')) drawDecision(result);
    }

    function drawDecision(result) {
        const chosen = choices({
            kind: model.kind,
            guess: result.label,
            names: known.names,
            scored: result.labels,
            chosen: result.labels.filter((l) => l.score >= (l.threshold ?? 2)).map((l) => l.label),
            decide: (decision) => send(decision),
        });
        const single = model.kind !== 'multi' && result.label !== null;
        put(
            answer,
            h(
                'h3',
                model.labels > 0 || result.labels.length > 0
                    ? 'Is it right?'
                    : 'Teach it its first label',
            ),
            chosen.node,
            single
                ? h(
                      'div.row',
                      h('button', { type: 'button', onclick: right }, 'Right ', kbd('y')),
                      h('button', { type: 'button', onclick: wrong }, 'Not this ', kbd('x')),
                  )
                : null,
        );
        view.keys('Answer', [
            ...chosen.keys,
            ...(single
                ? [
                      { keys: ['y'], says: 'the answer is right', run: right },
                      { keys: ['x'], says: 'it is not this label', run: wrong },
                  ]
                : []),
        ]);
    }

    const right = () => send({ action: 'confirm', label: asked.result.label });
    const wrong = () => send({ action: 'reject', label: asked.result.label });

    async function send({ isNew, ...decision }) {
        if (!asked) return;
        const about = asked;
        try {
            const item = signed({ model: model.name, ...about.input, ...decision });
            const accepted = await teach(item, { signal });
            taught.add({
                text: about.text,
                item,
                example: accepted.example,
                words: inWords({ ...decision, isNew }),
            });
            if (isNew) known.refresh();
            toast(
                accepted.label_created
                    ? `Learned, with a new label. Version ${accepted.version}.`
                    : `Learned. Version ${accepted.version}.`,
            );
            refreshModel().catch(failed);
            model.labels ||= 1;
            await ask();
        } catch (error) {
            failed(error);
        }
    }

    async function forget() {
        const [last] = taught.entries;
        if (!last) return;
        const erased = await undone(
            'Erase this example?',
            'The text leaves the journal, the disk and the model. This cannot be undone.',
            'Erase',
            () => remove(`/v1/examples/${last.example}`),
            'Erased.',
        );
        if (!erased) return;
        taught.entries.shift();
        view.again();
    }

    put(
        main,
        h('h1.visually-hidden', 'Ask and correct'),
        h(
            'div.two',
            h(
                'div',
                h(
                    'form.card.ask',
                    {
                        onsubmit: (event) => {
                            event.preventDefault();
                            ask();
                        },
                    },
                    h('label', { for: 'text' }, model.encoder === 'none' ? 'Vector' : 'Text'),
                    text,
                    h(
                        'div.row.between',
                        h(
                            'span.hint',
                            model.labels > 0
                                ? [
                                      plural(model.labels, 'label'),
                                      ', ',
                                      plural(model.examples, 'example'),
                                  ]
                                : 'No labels yet: ask anything, then teach the first one.',
                        ),
                        button,
                    ),
                ),
                h('div.card', answer),
            ),
            h(
                'aside.side',
                h('div.card', why),
                may('annotate') ? h('div.card', taught.node) : null,
            ),
        ),
    );
    fill(
        answer,
        model.labels > 0
            ? empty('Ask anything', 'The answer stands here, with what to press when it is wrong.')
            : empty(
                  'No labels yet',
                  'Ask any text, then teach it its first label. Two labels with two or three ' +
                      'examples each are enough to begin.',
              ),
    );
    text.addEventListener('input', () => {
        text.dir = direction(text.value);
    });
    text.addEventListener('keydown', (event) => {
        if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            ask();
        }
    });
    view.keys('Ask', [
        {
            keys: ['e', 'i'],
            says: 'write another text',
            run: () => {
                text.focus();
                text.select();
            },
        },
        ...(may('annotate')
            ? [
                  {
                      keys: ['z'],
                      says: 'undo the last correction',
                      run: async () => {
                          await taught.undo();
                          if (asked) ask({ focus: false });
                      },
                  },
                  { keys: ['Delete'], says: 'erase the last example for good', run: forget },
              ]
            : []),
    ]);
    text.focus();
}

export const ask = { id: 'ask', title: 'Ask', key: 'a', role: 'predict', show };

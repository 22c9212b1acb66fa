/* panels.js -- the parts of the quality view: figures, charts and tables, each drawn from `now`:
 * {report, history, traffic}, which the view keeps fresh. */
import { empty, h, name, table } from './dom.js';
import { chart, line, lines } from './figures.js';
import { clockOf, count, duration, figure, moment, percent } from './format.js';

const PER_CENT = { ticks: { callback: (x) => `${Math.round(100 * x)} %` } };

const interval = (low, high) => `between ${percent(low)} and ${percent(high)}`;

const tile = (title, shown, note) =>
    h(
        'div.tile',
        h('dt', title),
        h('dd', h('span.num.big', shown), note ? h('span.meta', note) : null),
    );

export function tiles(report) {
    const part = report.prequential?.all;
    const sets = report.sets;
    const kept = report.leave_one_out?.all;
    const unsure = `novel ${percent(report.asked.novel_window)}, of the last 500`;
    return h(
        'dl.tiles',
        sets
            ? [
                  tile(
                      'Whole sets right',
                      percent(sets.exact_match),
                      interval(sets.exact_match_low, sets.exact_match_high),
                  ),
                  tile('Of the last 500', percent(sets.exact_match_window)),
                  tile('Micro-F1', percent(sets.micro_f1), `macro ${percent(sets.macro_f1)}`),
                  tile('Hamming loss', figure(sets.hamming_loss), 'wrong decisions'),
              ]
            : [
                  tile(
                      'Accuracy',
                      percent(part?.accuracy),
                      part && interval(part.accuracy_low, part.accuracy_high),
                  ),
                  tile('Of the last 500', percent(part?.accuracy_window), 'corrections'),
                  tile('Macro-F1', percent(part?.macro_f1), 'each label counts the same'),
                  tile('Calibration error', percent(part?.ece), 'score against accuracy'),
              ],
        tile('Stored examples', percent(kept?.accuracy), 'each without itself'),
        tile('Asked and unsure', percent(report.asked.abstained_window), unsure),
    );
}

/** Of both counts: points where score and accuracy are the same lie on the line. */
export function reliability(now, signal) {
    const points = (report) =>
        (report?.all.reliability ?? []).filter((b) => b.rows > 0 && b.confidence !== null);
    const rows = () =>
        [
            ['corrections', points(now.report?.prequential)],
            ['stored', points(now.report?.leave_one_out)],
        ].flatMap(([what, list]) =>
            list.map((b) => [what, percent(b.confidence), percent(b.accuracy), count(b.rows)]),
        );
    const set = (label, report, color) => {
        const list = points(report);
        const most = Math.max(1, ...list.map((b) => b.rows));
        return line(
            label,
            list.map((b) => ({ x: b.confidence, y: b.accuracy })),
            color,
            {
                pointRadius: list.map((b) => 3 + 6 * Math.sqrt(b.rows / most)),
                borderWidth: 1.5,
                tension: 0,
            },
        );
    };
    return chart({
        title: 'Is 80 % sure right 80 % of the time?',
        note: 'On the line, scores mean what they say. The size of a point is how many.',
        signal,
        columns: ['Count', 'Score', 'Right', 'Texts'],
        rows,
        says: () =>
            `Calibration error ${percent(now.report?.prequential?.all.ece)} of corrections, ` +
            `${percent(now.report?.leave_one_out?.all.ece)} of stored examples.`,
        make: (p) => ({
            type: 'line',
            data: {
                datasets: [
                    set('corrections', now.report?.prequential, p.accent),
                    set('stored, without themselves', now.report?.leave_one_out, p.second),
                    line(
                        '',
                        [
                            { x: 0, y: 0 },
                            { x: 1, y: 1 },
                        ],
                        p.muted,
                        { borderDash: [4, 4], borderWidth: 1, pointHitRadius: 0 },
                    ),
                ],
            },
            options: {
                scales: {
                    x: { type: 'linear', min: 0, max: 1, ...PER_CENT, title: { text: 'score' } },
                    y: { min: 0, max: 1, ...PER_CENT, title: { text: 'right' } },
                },
            },
        }),
    });
}

export function accuracyLine(now, signal) {
    return chart({
        title: 'Accuracy, since this page is open',
        note: 'Of corrections, each scored before it was learned. Fading: newer ones count more.',
        signal,
        columns: ['Time', 'Fading', 'Last 500', 'Version'],
        rows: () =>
            now.history
                .map((r) => [clockOf(r.at), percent(r.fading), percent(r.window), r.version])
                .reverse(),
        says: () =>
            `Now ${percent(now.history.at(-1)?.fading)}, ` +
            `of the last 500 ${percent(now.history.at(-1)?.window)}.`,
        make: (p) => ({
            type: 'line',
            data: {
                labels: now.history.map((r) => clockOf(r.at)),
                datasets: lines(now.history, [
                    ['fading', 'fading', p.accent],
                    ['last 500', 'window', p.second],
                ]),
            },
            options: { scales: { x: {}, y: { suggestedMin: 0.5, max: 1, ...PER_CENT } } },
        }),
    });
}

export function riskLine(now, signal) {
    const points = () =>
        (now.report?.leave_one_out ?? now.report?.prequential)?.all.risk_coverage ?? [];
    return chart({
        title: 'What a threshold costs',
        note: 'Answer only above a score: how many texts get an answer, how many are wrong.',
        signal,
        columns: ['Threshold', 'Answered', 'Wrong'],
        rows: () =>
            points().map((r) => [percent(r.threshold, 0), percent(r.coverage), percent(r.risk)]),
        says: () => {
            const half = points().find((r) => r.threshold >= 0.5);
            return half
                ? `Above 50 %: ${percent(half.coverage)} answered, ${percent(half.risk)} wrong.`
                : 'Nothing counted yet.';
        },
        make: (p) => ({
            type: 'line',
            data: {
                datasets: lines(
                    points(),
                    [
                        ['answered', 'coverage', p.accent],
                        ['of them wrong', 'risk', p.bad],
                    ],
                    { x: 'threshold' },
                ),
            },
            options: {
                scales: {
                    x: {
                        type: 'linear',
                        min: 0,
                        max: 1,
                        ...PER_CENT,
                        title: { text: 'threshold' },
                    },
                    y: { min: 0, max: 1, ...PER_CENT },
                },
            },
        }),
    });
}

export function trafficLines(now, signal) {
    const last = () => now.traffic.at(-1);
    const times = () => now.traffic.map((r) => clockOf(r.at));
    const rate = chart({
        title: 'Traffic',
        note: 'Answers and texts a second.',
        signal,
        columns: ['Time', 'Answers/s', 'Texts/s', 'Refused/s'],
        rows: () =>
            now.traffic
                .map((r) => [
                    clockOf(r.at),
                    figure(r.answers, 1),
                    figure(r.texts, 1),
                    figure(r.refused, 1),
                ])
                .reverse(),
        says: () =>
            `${figure(last()?.answers, 1)} answers a second, ${figure(last()?.texts, 1)} texts, ` +
            `${figure(last()?.refused, 1)} refused.`,
        make: (p) => ({
            type: 'line',
            data: {
                labels: times(),
                datasets: lines(now.traffic, [
                    ['answers', 'answers', p.accent],
                    ['texts', 'texts', p.second],
                    ['refused', 'refused', p.bad],
                ]),
            },
            options: { scales: { x: {}, y: { min: 0, suggestedMax: 5 } } },
        }),
    });
    const wait = chart({
        title: 'Latency',
        note: 'Of questions, from the last byte to the answer.',
        signal,
        columns: ['Time', 'Half', '95 of 100', '99 of 100'],
        rows: () =>
            now.traffic
                .map((r) => [clockOf(r.at), duration(r.p50), duration(r.p95), duration(r.p99)])
                .reverse(),
        says: () =>
            `Half within ${duration(last()?.p50)}, 99 of 100 within ${duration(last()?.p99)}.`,
        make: (p) => ({
            type: 'line',
            data: {
                labels: times(),
                datasets: lines(
                    now.traffic,
                    [
                        ['half', 'p50', p.accent],
                        ['95 of 100', 'p95', p.second],
                        ['99 of 100', 'p99', p.third],
                    ],
                    { spanGaps: true },
                ),
            },
            options: {
                scales: {
                    x: {},
                    y: {
                        type: 'logarithmic',
                        suggestedMin: 1e-3,
                        suggestedMax: 1e-2,
                        ticks: { callback: duration },
                    },
                },
            },
        }),
    });
    return [rate, wait];
}

export function drift(report) {
    if (report.drift.length === 0)
        return empty(
            'No detector has enough yet',
            'They begin with some hundred corrections or questions.',
        );
    return table(
        'Drift detectors',
        ['Detector', '#Now', '#Seen', '#Alarms', 'Last: from → to', 'When'],
        report.drift.map((d) => [
            d.detector.replaceAll('_', ' '),
            figure(d.now),
            count(d.rows),
            h('span', { class: d.fired > 0 ? 'weak' : null }, count(d.fired)),
            d.fired > 0
                ? `${figure(d.before)} → ${figure(d.after)}${d.new_labels ? ', new labels' : ''}`
                : '–',
            d.at ? moment(d.at) : d.at_seq ? `event ${count(d.at_seq)}` : '–',
        ]),
    );
}

export function confusions(report) {
    const rows = (report.leave_one_out ?? report.prequential)?.confusions ?? [];
    if (rows.length === 0)
        return empty(
            'Nothing is mixed up',
            'Pairs of labels that the model takes for each other are listed here.',
        );
    return table(
        'Confusions',
        ['Is', 'Taken for', '#Times'],
        rows.slice(0, 8).map((c) => [name(c.label), name(c.predicted), count(c.rows)]),
    );
}

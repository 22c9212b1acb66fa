/* format.js -- numbers, times and names as people read them. */

const whole = new Intl.NumberFormat('en');

/** 0.9345 -> "93.5 %"; null -> "–". */
export const percent = (x, digits = 1) =>
    x === null || x === undefined || Number.isNaN(x) ? '–' : `${(100 * x).toFixed(digits)} %`;

export const count = (n) => (n === null || n === undefined ? '–' : whole.format(n));

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

export function figure(x, digits = 3) {
    if (x === null || x === undefined || Number.isNaN(x)) return '–';
    if (x !== 0 && Math.abs(x) < 1e-3) return x.toExponential(1);
    return x.toFixed(digits);
}

/** Seconds -> "1.6 ms", "2.1 s", "3 min". */
export function duration(s) {
    if (s === null || s === undefined || Number.isNaN(s)) return '–';
    if (s < 0.001) return `${Math.round(s * 1e6)} µs`;
    if (s < 1) return `${(s * 1e3).toFixed(s < 0.1 ? 1 : 0)} ms`;
    if (s < 90) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
    if (s < 5400) return `${Math.round(s / 60)} min`;
    return `${(s / 3600).toFixed(1)} h`;
}

export function bytes(n) {
    if (n === null || n === undefined) return '–';
    return n < 1 << 20 ? `${Math.round(n / 1024)} KB` : `${Math.round(n / (1 << 20))} MB`;
}

const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', year: 'numeric' });
const clock = new Intl.DateTimeFormat('en-GB', {
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
});

export const dayOf = (time) => day.format(new Date(time));
export const clockOf = (time) => clock.format(new Date(time));
export const moment = (time) => (time ? `${dayOf(time)}, ${clockOf(time)}` : '–');

/** "3 min ago"; beyond a day the day. */
export function ago(time) {
    const s = (Date.now() - new Date(time)) / 1000;
    if (s < 60) return 'just now';
    if (s < 3600) return `${Math.floor(s / 60)} min ago`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
    return dayOf(time);
}

/* live.js -- /v1/events as browser events.
 *
 * EventSource cannot send the Authorization header, so the stream is read with fetch: lines are
 * taken apart here, and after a break it goes on behind the last id that was seen. What was told is
 * dispatched on `live` by its type (swap, label, model, drift, warning, run, reset); `state` tells
 * whether the stream stands.
 */
import { headers, key, session } from './api.js';

export const live = new EventTarget();

let current = null; /* AbortController of the stream under way */
let last = null; /* the id of the last event seen */

const tell = (type, detail) => live.dispatchEvent(new CustomEvent(type, { detail }));

/** Takes a block of lines apart; tells what is in it. Returns its id. */
function block(text) {
    const fields = {};
    for (const line of text.split('\n')) {
        const at = line.indexOf(': ');
        if (at > 0) fields[line.slice(0, at)] = line.slice(at + 2);
    }
    if (fields.data) tell(fields.event, JSON.parse(fields.data));
    return fields.id;
}

async function read(response, seen) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        rest += value;
        for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
            const id = block(rest.slice(0, end));
            if (id) seen(id);
            rest = rest.slice(end + 2);
        }
    }
}

/** Begins to listen, or anew (another key); what has happened since the last event is told. */
export async function listen() {
    current?.abort();
    const mine = (current = new AbortController());
    let wait = 500;
    while (!mine.signal.aborted) {
        try {
            const sent = key();
            const response = await fetch('/v1/events', {
                headers: headers(last ? { 'Last-Event-ID': last } : {}),
                signal: mine.signal,
                cache: 'no-store',
                credentials: 'omit',
            });
            if (response.status === 401 && sent !== key()) continue; /* one came meanwhile */
            if (response.status === 401 || response.status === 403) {
                tell('state', response.status === 403 ? 'forbidden' : 'off');
                if (response.status === 401) session.dispatchEvent(new Event('signin'));
                return;
            }
            if (response.ok) {
                tell('state', 'on');
                wait = 500;
                await read(response, (id) => {
                    last = id;
                });
            }
        } catch {
            /* broken off: said below */
        }
        if (mine.signal.aborted) return;
        tell('state', 'off');
        await new Promise((go) => {
            setTimeout(go, wait);
        });
        wait = Math.min(wait * 2, 10000);
    }
}

function stop() {
    current?.abort();
    current = null;
}

/* A browser opens six connections to one place, for all its pages together. A page that nobody
 * looks at, or that is only kept for the way back, must not hold one of them. */
let hidden = 0;
document.addEventListener('visibilitychange', () => {
    clearTimeout(hidden);
    if (document.hidden) hidden = setTimeout(stop, 5000);
    else if (current === null && last !== null) listen();
});
addEventListener('pagehide', stop);
addEventListener('pageshow', (event) => {
    if (event.persisted) listen();
});

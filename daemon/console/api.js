/* api.js -- the public API, as a page calls it.
 *
 * The key a person typed in is kept for this tab alone (sessionStorage). Every refusal becomes an
 * ApiError whose `words` can be shown as they are: what is wrong, and in which field. A 401 also
 * asks the page for a key (the event `signin` of `session`).
 */

const KEY = 'learnd-key';

/** Tells of `signin`: a key is needed, or the one given is not taken. */
export const session = new EventTarget();

export const key = () => {
    try {
        return sessionStorage.getItem(KEY) ?? '';
    } catch {
        return '';
    }
};
export function setKey(value) {
    try {
        if (value) sessionStorage.setItem(KEY, value);
        else sessionStorage.removeItem(KEY);
    } catch {
        /* kept nowhere then */
    }
}

export class ApiError extends Error {
    /** @param {{status: number, code: string, detail: string, field?: string}} problem */
    constructor({ status, code, detail, field }) {
        super(detail);
        Object.assign(this, { name: 'ApiError', status, code, field });
        const text = detail.charAt(0).toUpperCase() + detail.slice(1);
        this.words = `${text}${field ? ` (field ${field})` : ''}`;
    }
}

/** One segment of a path. A browser takes "." and ".." for steps, however they are escaped. */
export function segment(text) {
    if (text === '.' || text === '..') {
        throw new ApiError({
            status: 0,
            code: 'unaddressable',
            detail: `a browser cannot name "${text}" in an address; learnctl can`,
        });
    }
    return encodeURIComponent(text);
}

export function headers(more = {}) {
    const bearer = key();
    return bearer ? { ...more, Authorization: `Bearer ${bearer}` } : more;
}

async function refusal(response) {
    let problem = {};
    try {
        problem = await response.json();
    } catch {
        /* not ours: a proxy's page */
    }
    return new ApiError({
        status: response.status,
        code: problem.code ?? 'http',
        detail: problem.detail ?? `the server answered ${response.status} ${response.statusText}`,
        field: problem.field,
    });
}

/**
 * An answer, whatever it is. Who asked too often (429) is told when to come again; nothing was
 * done, so a short wait is waited for, once.
 */
async function ask(path, how, again = true) {
    let response;
    try {
        response = await fetch(path, { ...how, cache: 'no-store', credentials: 'omit' });
    } catch (error) {
        if (error.name === 'AbortError') throw error;
        throw new ApiError({
            status: 0,
            code: 'unreachable',
            detail: 'the daemon cannot be reached',
        });
    }
    const wait_s = Number(response.headers.get('Retry-After') ?? Infinity);
    if (response.status !== 429 || wait_s > 2 || !again) return response;
    await new Promise((go) => {
        setTimeout(go, 1000 * wait_s);
    });
    return ask(path, how, false);
}

/** @returns {Promise<Response>} an answer that is no refusal */
export async function request(method, path, body, { signal, quiet = false } = {}) {
    const json = body !== undefined;
    const sent = key();
    const response = await ask(path, {
        method,
        signal,
        headers: headers(json ? { 'Content-Type': 'application/json' } : {}),
        body: json ? JSON.stringify(body) : undefined,
    });
    if (response.ok) return response;
    const error = await refusal(response);
    /* What was sent before there was a key, or with another, says nothing of this one. */
    if (response.status === 401 && !quiet && sent === key()) {
        session.dispatchEvent(new CustomEvent('signin', { detail: error }));
    }
    throw error;
}

async function call(method, path, body, more) {
    const response = await request(method, path, body, more);
    return response.status === 204 ? null : response.json();
}

export const get = (path, more) => call('GET', path, undefined, more);
export const post = (path, body, more) => call('POST', path, body, more);
export const patch = (path, body, more) => call('PATCH', path, body, more);
export const remove = (path, more) => call('DELETE', path, undefined, more);

/** Every row of a list, page by page; at most `most`. */
export async function all(path, rows, { most = 5000, ...more } = {}) {
    const found = [];
    let cursor = null;
    do {
        const mark = path.includes('?') ? '&' : '?';
        const page = await get(
            `${path}${mark}limit=1000${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`,
            more,
        );
        found.push(...page[rows]);
        cursor = page.next_cursor;
    } while (cursor && found.length < most);
    return found;
}

export const modelPath = (model, rest = '') => `/v1/models/${segment(model)}${rest}`;
export const labelPath = (model, label, rest = '') =>
    modelPath(model, `/labels/${segment(label)}${rest}`);

/** One correction; what it says is durable when this resolves. */
export async function teach(item, { wait = 'applied', signal } = {}) {
    const answer = await post('/v1/feedback', { source: 'console', wait, ...item }, { signal });
    return { ...answer.accepted[0], version: answer.version };
}

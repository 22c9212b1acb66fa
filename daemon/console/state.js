/* state.js -- what the whole page knows: who is there, which models, which of them is looked at. */
import { all, get, modelPath } from './api.js';

/** Tells of `model`: another one is looked at, or what is known of it has changed. */
export const changes = new EventTarget();

export const state = {
    models: [],
    /** The one that is looked at, as GET /v1/models/{m} gives it; null: there is none. */
    model: null,
    info: null,
    /** {role, key} of GET /v1/me; a daemon without it has no roles. */
    me: { role: 'admin', key: null },
    hasKeys: false,
};

const RANK = { predict: 1, annotate: 2, admin: 3 };
export const may = (role) => (RANK[state.me.role] ?? 0) >= RANK[role];

const remembered = () => {
    try {
        return localStorage.getItem('learnd-model');
    } catch {
        return null;
    }
};

function know(models, chosen) {
    state.models = models;
    state.model = models.find((m) => m.name === chosen) ?? models[0] ?? null;
    changes.dispatchEvent(new Event('model'));
}

export async function refreshModels(chosen = state.model?.name) {
    know(await all('/v1/models', 'models'), chosen);
}

export async function refreshModel() {
    if (!state.model) return;
    const fresh = await get(modelPath(state.model.name));
    if (fresh.name !== state.model.name) return;
    state.model = fresh;
    changes.dispatchEvent(new Event('figures'));
}

export function chooseModel(name) {
    state.model = state.models.find((m) => m.name === name) ?? state.model;
    try {
        localStorage.setItem('learnd-model', name);
    } catch {
        /* next time the first again */
    }
    changes.dispatchEvent(new Event('model'));
}

/** Who is there, and what may be shown. */
async function whoAmI() {
    try {
        state.me = await get('/v1/me');
        state.hasKeys = true;
    } catch (error) {
        if (error.status !== 404) throw error;
        state.me = { role: 'admin', key: null };
        state.hasKeys = false;
    }
}

/** All that has to be known before a view is shown; it is asked for at once. */
export async function enter() {
    const [, info, models] = await Promise.all([
        whoAmI(),
        get('/v1/info'),
        all('/v1/models', 'models'),
    ]);
    state.info = info;
    know(models, state.model?.name ?? remembered() ?? 'default');
}

/** As which annotator votes are given: the name typed here, else none. */
export const annotator = () => {
    try {
        return localStorage.getItem('learnd-annotator') ?? '';
    } catch {
        return '';
    }
};
export function setAnnotator(name) {
    try {
        localStorage.setItem('learnd-annotator', name);
    } catch {
        /* for this page only */
    }
}
export const signed = (item) => (annotator() ? { ...item, annotator: annotator() } : item);

/* known.js -- the names of a model's labels, kept fresh while a view is shown. */
import { all, modelPath } from './api.js';
import { failed } from './dom.js';

/** @returns {{rows: object[], names: () => string[], refresh: () => Promise<void>}} */
export function labelsOf(view) {
    const known = {
        rows: [],
        names: () => known.rows.filter((l) => l.status === 'active').map((l) => l.label),
        async refresh() {
            try {
                known.rows = await all(modelPath(view.model.name, '/labels'), 'labels', {
                    signal: view.signal,
                });
            } catch (error) {
                failed(error);
            }
        },
    };
    known.refresh();
    view.on('label', (event) => {
        if (event.model === view.model.name) known.refresh();
    });
    return known;
}

/* theme.js -- before the first paint: the theme that was chosen here, else the system's. Not a
 * module: those run after the page has been drawn. */
try {
    const chosen = localStorage.getItem('learnd-theme');
    if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
} catch {
    /* a browser that keeps nothing: the system's */
}

/**
 * Keeping the keyboard's focus: what has it is never hidden without an heir.
 */

/**
 * Hide an element; the focus, if it is there, goes to an heir.
 *
 * @param {HTMLElement} element
 * @param {Element | null} heir focusable, at least by script (tabindex)
 */
export function hide(element, heir) {
  const focused = element.contains(document.activeElement);
  element.hidden = true;
  if (focused && heir instanceof HTMLElement) heir.focus({ preventScroll: true });
}

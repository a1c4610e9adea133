/**
 * Wake-up calls: moments at which a connection that looked alive may be dead, and one that
 * waits may be had again.
 */

const TICK = 5_000; // ms
const DRIFT = 5_000; // ms a tick may come late before the machine counts as having slept

/**
 * Watch for them until the returned function is called.
 *
 * A laptop that sleeps with the page in front fires no event of its own, and the browser's
 * monotonic clock may stand still meanwhile; the wall clock between two ticks shows it.
 *
 * @param {object} handlers
 * @param {() => void} handlers.wake the page is in front again, the network is back, or the
 *   machine slept
 * @param {() => void} handlers.offline the browser says that there is no network
 * @param {() => void} handlers.hide the page may be gone after this
 * @returns {() => void}
 */
export function watchWake({ wake, offline, hide }) {
  const stop = new AbortController();
  const { signal } = stop;
  const visible = () => (document.visibilityState === "visible" ? wake() : hide());

  globalThis.addEventListener?.("online", wake, { signal });
  globalThis.addEventListener?.("offline", offline, { signal });
  globalThis.addEventListener?.("pageshow", wake, { signal });
  globalThis.addEventListener?.("pagehide", hide, { signal });
  globalThis.document?.addEventListener("visibilitychange", visible, { signal });
  // Page Lifecycle: a frozen tab is thawed (https://wicg.github.io/page-lifecycle/).
  globalThis.document?.addEventListener("resume", wake, { signal });

  let before = Date.now();
  const ticker = setInterval(() => {
    const now = Date.now();
    if (now - before > TICK + DRIFT) wake();
    before = now;
  }, TICK);
  // In Node it is no reason to keep a process alive whose connection has ended for good.
  /** @type {any} */ (ticker).unref?.();

  return () => {
    stop.abort();
    clearInterval(ticker);
  };
}

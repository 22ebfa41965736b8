// Parts marked data-live ask the server for news every so many seconds (data-live-slow: so many after the first minute).
// Not while the tab is hidden, the reader has paused, or is typing or selecting in the part. An unchanged part answers 204;
// a part that has come to its end is rendered without data-live. Failures double the gap, up to a minute.
(() => {
  const SLOWEST = 60;
  const FIRST_MINUTE = 60_000;
  const began = performance.now();
  const kept = new Map(); // part id → { timer, failures, said }
  let paused = false;

  const memory = (part) => {
    if (!kept.has(part.id)) kept.set(part.id, { timer: 0, failures: 0, said: part.dataset.say });
    return kept.get(part.id);
  };

  const gap = (part) => {
    const late = performance.now() - began > FIRST_MINUTE;
    const seconds = Number((late && part.dataset.liveSlow) || part.dataset.live);
    return Math.min(SLOWEST, seconds * 2 ** memory(part).failures) * 1000;
  };

  const isBusy = (part) => {
    if (paused || document.hidden) return true;
    if (part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) return true;
    const selection = getSelection();
    return !selection.isCollapsed && selection.containsNode(part, true);
  };

  const schedule = (part) => {
    const state = memory(part);
    if (state.timer) return;
    state.timer = setTimeout(() => {
      state.timer = 0;
      const current = document.getElementById(part.id);
      if (!current || !current.hasAttribute("data-live")) return;
      if (isBusy(current)) schedule(current);
      else htmx.trigger(current, "rw:refresh");
    }, gap(part));
  };

  const scheduleAll = () => document.querySelectorAll("[data-live]").forEach((part) => {
    if (part.hasAttribute("hx-get")) schedule(part);
  });

  const announce = () => {
    const place = document.querySelector("[data-announce]");
    document.querySelectorAll("[data-say]").forEach((part) => {
      const state = memory(part);
      if (part.dataset.say && part.dataset.say !== state.said && place) place.textContent = part.dataset.say;
      state.said = part.dataset.say;
    });
  };

  // What a reader has opened stays open, and the focus stays where it was.
  let opened = new Map();
  let focused = null;
  const nameOfFocus = (target) => {
    const element = document.activeElement;
    if (!element || !target.contains(element)) return null;
    if (element.id) return `#${CSS.escape(element.id)}`;
    const details = element.matches("summary") && element.parentElement;
    if (details && details.id) return `#${CSS.escape(details.id)} > summary`;
    const link = element.getAttribute("href");
    return link ? `a[href="${CSS.escape(link)}"]` : null;
  };
  document.addEventListener("htmx:beforeSwap", (event) => {
    const target = event.detail.target;
    if (!event.detail.shouldSwap || !target) return;
    opened = new Map([...target.querySelectorAll("details[id]")].map((details) => [details.id, details.open]));
    focused = nameOfFocus(target);
  });
  document.addEventListener("htmx:afterSwap", () => {
    opened.forEach((open, id) => {
      const details = document.getElementById(id);
      if (details) details.open = open;
    });
    opened = new Map();
    const again = focused && document.querySelector(focused);
    if (again) again.focus({ preventScroll: true });
    focused = null;
    const titled = document.querySelector("[data-title]");
    if (titled) document.title = titled.dataset.title;
  });

  document.addEventListener("htmx:afterRequest", (event) => {
    const part = document.getElementById(event.detail.elt.id) || event.detail.elt;
    const state = memory(part);
    const { xhr, successful } = event.detail;
    state.failures = successful ? 0 : state.failures + 1;
    const failed = part.querySelector("[data-live-failed]");
    if (failed) failed.hidden = successful;
    const lookedAt = xhr && xhr.getResponseHeader("X-Looked-At");
    const place = part.querySelector("[data-looked-at]");
    if (successful && lookedAt && place) place.textContent = lookedAt;
    announce();
    scheduleAll();
  });

  document.addEventListener("click", (event) => {
    const again = event.target.closest("[data-live-again]");
    if (again) htmx.trigger(again.closest("[data-live]"), "rw:refresh");
    const pause = event.target.closest("[data-live-pause]");
    if (pause) {
      paused = !paused;
      pause.setAttribute("aria-pressed", String(paused));
    }
  });

  document.querySelectorAll("[data-say]").forEach(memory);
  if (document.querySelector("[data-live][hx-get]")) {
    document.querySelectorAll("[data-live-pause]").forEach((button) => { button.hidden = false; });
    scheduleAll();
  }
})();

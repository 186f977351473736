/* What makes the pages about categories and photos quicker; each of them works without it.

   stream   photos of a category: further ones are fetched as one scrolls, and the address follows what is in view
   why      the explanation of a tag is put into the page instead of loading it anew
   keys     review by keyboard; may be switched off, as single letters may be somebody's commands */

const BY_ITSELF = 4; // pages fetched without being asked, so that the end of the page can still be reached

const live = document.createElement("p");
live.className = "hidden";
live.setAttribute("role", "status");
document.body.append(live);
const say = (words) => { live.textContent = words; };

async function fetched(address) {
  const answer = await fetch(address, { headers: { accept: "text/html" } });
  if (!answer.ok) throw new Error(`${address} answered ${answer.status}`);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

/* ---- stream */

function stream(list) {
  let nav = document.querySelector("[data-more]");
  let fetchedPages = 0;
  let busy = false;

  async function more(asked) {
    if (busy || !nav) return;
    busy = true;
    const link = nav.querySelector("a");
    const before = list.children.length;
    try {
      const page = await fetched(link.href);
      const added = [...page.querySelectorAll("[data-stream] > li")];
      const next = page.querySelector("[data-more]");
      const focused = nav.contains(document.activeElement);
      list.append(...added);
      if (next) { nav.replaceWith(next); } else { nav.remove(); }
      nav = next;
      fetchedPages += 1;
      if (asked || (focused && !next)) added[0]?.querySelector("a").focus();
      else if (focused) next.querySelector("a").focus({ preventScroll: true });
      const total = Number(list.dataset.total).toLocaleString("en");
      const came = list.children.length - before;
      say(`${came} more photo${came === 1 ? "" : "s"}; ${list.children.length.toLocaleString("en")} of ${total} are shown.`);
      busy = false;
      watch();
    } catch {
      busy = false;
      location.assign(link.href); // as without a script
    }
  }

  const nearEnd = new IntersectionObserver((seen) => {
    if (seen.some((each) => each.isIntersecting) && fetchedPages < BY_ITSELF) more(false);
  }, { rootMargin: "900px 0px" });

  function watch() {
    nearEnd.disconnect();
    if (!nav) return;
    nearEnd.observe(nav);
    nav.querySelector("a").addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      more(true);
    });
  }

  function follow() {
    const starts = [...list.querySelectorAll("[data-page]")];
    const passed = starts.filter((each) => each.getBoundingClientRect().top < innerHeight / 2);
    const at = (passed.at(-1) ?? starts[0]).dataset.page;
    if (starts.length > 1 && at !== location.pathname + location.search) history.replaceState(history.state, "", at);
  }

  let waiting = 0;
  addEventListener("scroll", () => {
    waiting ||= requestAnimationFrame(() => { waiting = 0; follow(); });
  }, { passive: true });
  watch();
}

/* ---- why */

function explain(place) {
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a[data-why]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    try {
      const box = (await fetched(link.href)).querySelector("#why");
      place.replaceChildren(box);
      history.replaceState(history.state, "", link.href);
      box.focus({ preventScroll: true });
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      box.scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
    } catch {
      location.assign(link.href);
    }
  });
}

/* ---- keys */

function keys(box) {
  const details = box.querySelector(".keys");
  const on = details.querySelector("[data-keys-on]");
  const show = () => box.querySelectorAll("button kbd").forEach((hint) => { hint.hidden = !on.checked; });
  details.hidden = false;
  on.checked = localStorage.getItem("keys") !== "off";
  on.addEventListener("change", () => { localStorage.setItem("keys", on.checked ? "on" : "off"); show(); });
  show();
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=checkbox], [type=radio]), select, textarea");
    if (!on.checked || typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const target = document.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
    if (!target) return;
    event.preventDefault();
    if (target.matches("input")) target.focus();
    else target.click();
  });
}

for (const here of document.querySelectorAll(".stream [aria-current]")) {
  const strip = here.parentElement;
  strip.scrollLeft = here.offsetLeft - strip.offsetLeft - (strip.clientWidth - here.clientWidth) / 2;
}
const list = document.querySelector("[data-stream]");
if (list) stream(list);
const place = document.querySelector("#why-place");
if (place) explain(place);
const box = document.querySelector("[data-keys]");
if (box) keys(box);

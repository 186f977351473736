// The pictograph, made livelier: zooming without leaving the page, arrow keys, and a slider for the period.
//
// The page works without this: every tile is a link, the period a form. Here the same links and the same form are
// followed by fetching the page they lead to and showing what is in its #view, so there is one way to draw a map.
// Whatever goes wrong on the way, the browser follows the link itself.

const still = matchMedia("(prefers-reduced-motion: reduce)");
const view = () => document.getElementById("view");
const map = () => document.querySelector("#view .map");
const cells = () => [...document.querySelectorAll("#view .map .cell")];

let asked = 0; // the newest request; answers to older ones are dropped
const behind = []; // addresses that were zoomed in from, for the way back

/** Show the view of the page at `address`, as the browser would; `how` is "in", "out" or "same". */
async function go(address, how, { push = true, node = map()?.dataset.under } = {}) {
  const mine = ++asked;
  const kept = document.activeElement?.closest("[id]")?.id;
  try {
    const page = await fetched(address);
    await placed(page);
    if (mine !== asked) return;
    if (push) history.pushState(null, "", address);
    await changed(page, how, node);
  } catch {
    location.assign(address);
    return;
  }
  focused(how, node, kept);
  said();
}

async function fetched(address) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok || !page.getElementById("view")) throw new Error(`no view at ${address}`);
  return page;
}

/** Have the style sheet of the new places loaded before anything stands in them. */
function placed(page) {
  const wanted = page.querySelector("link[data-places]")?.getAttribute("href");
  const known = [...document.querySelectorAll("link[data-places]")];
  if (!wanted) return Promise.resolve();
  const sheet = document.createElement("link");
  Object.assign(sheet, { rel: "stylesheet", href: wanted, media: "not all" });
  sheet.dataset.places = "";
  return new Promise((loaded, failed) => {
    sheet.onload = loaded;
    sheet.onerror = failed;
    document.head.append(sheet);
  }).then(() => {
    page.places = () => {
      sheet.media = "all";
      known.forEach((old) => old.remove());
    };
  });
}

async function changed(page, how, node) {
  const swap = () => {
    page.places?.();
    document.title = page.title;
    view().replaceWith(document.adoptNode(page.getElementById("view")));
    lively();
  };
  if (!document.startViewTransition || still.matches) {
    swap();
    return;
  }
  const grows = how === "in" ? tileOf(node) : how === "out" ? map() : null;
  if (grows) grows.style.viewTransitionName = "zoom";
  const transition = document.startViewTransition(() => {
    swap();
    const grown = how === "in" ? map() : how === "out" ? tileOf(node) : null;
    if (grown) grown.style.viewTransitionName = "zoom";
  });
  await transition.updateCallbackDone;
  transition.finished.finally(() => {
    for (const each of document.querySelectorAll(".map, .tile")) each.style.viewTransitionName = "";
  });
}

const tileOf = (node) => document.querySelector(`#view .cell[data-node="${CSS.escape(node ?? "")}"]`)?.parentElement;

function focused(how, node, kept) {
  const next = how === "out" ? tileOf(node)?.firstElementChild : how === "in" ? cells()[0] : document.getElementById(kept);
  (next ?? document.querySelector("#view a"))?.focus({ preventScroll: how === "same" });
}

/** Tell who cannot see it what the map shows now. */
function said() {
  const shown = map();
  const names = cells().map((cell) => cell.querySelector("strong").textContent);
  const words = shown ? `Showing ${shown.dataset.in}: ${names.join(", ")}.` : "There is nothing to show.";
  document.getElementById("said").textContent = words;
}

// ---- by hand

function followed(event) {
  const link = event.target.closest("#view a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const address = new URL(link.href);
  if (address.pathname !== location.pathname || address.hash || link.hasAttribute("download")) return;
  event.preventDefault();
  if (link.dataset.zoom === "in") behind.push([location.href, link.href]);
  go(link.href, link.dataset.zoom ?? "same", { node: link.dataset.node ?? map()?.dataset.under });
}

function pressed(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const cell = event.target.closest?.("#view .cell");
  if (event.key === "Escape" && map()?.dataset.up && !event.target.closest("input, select")) {
    event.preventDefault();
    go(above(), "out");
  } else if (cell && event.key in STEPS) {
    const next = neighbour(cell, ...STEPS[event.key]);
    if (next) {
      event.preventDefault();
      next.focus();
    }
  }
}

/** Where Escape leads: back to where this was zoomed in from, else one step up the path. */
function above() {
  const [from, to] = behind.pop() ?? [];
  return to === location.href ? from : map().dataset.up;
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The tile that lies nearest in that direction: first by how far off the line, then by how far along it. */
function neighbour(from, right, down) {
  const here = from.getBoundingClientRect();
  const found = cells()
    .filter((cell) => cell !== from)
    .map((cell) => [cell, cell.getBoundingClientRect()])
    .filter(([, box]) => (right ? (right > 0 ? box.left >= here.right - 2 : box.right <= here.left + 2)
      : down > 0 ? box.top >= here.bottom - 2 : box.bottom <= here.top + 2))
    .map(([cell, box]) => ({ cell, cost: distance(here, box, right) }));
  return found.sort((one, other) => one.cost - other.cost)[0]?.cell;
}

function distance(here, box, right) {
  const [x, y] = [gap(here.left, here.right, box.left, box.right), gap(here.top, here.bottom, box.top, box.bottom)];
  const aside = right ? (here.top + here.bottom - box.top - box.bottom) : (here.left + here.right - box.left - box.right);
  return 10 * (right ? y : x) + (right ? x : y) + Math.abs(aside) / 20;
}

const gap = (a, b, c, d) => Math.max(0, c - b, a - d);

// ---- the period, with two handles

function slider() {
  const form = document.querySelector("#view .period");
  if (!form || form.querySelector(".span")) return;
  const [from, to] = [form.elements.from, form.elements.to];
  const handles = [from, to].map((select, end) => handle(select, end ? "To" : "From"));
  const span = document.createElement("div");
  span.className = "span";
  span.append(...handles);
  span.style.marginInline = `calc(${50 / from.options.length}% - 11px)`; // each handle below the middle of its month
  const line = document.createElement("div");
  line.className = "spanned";
  const read = document.createElement("output");
  line.append(read, ...[...form.querySelectorAll("a")]);
  form.querySelector("svg").after(span, line);
  form.querySelector(".ends").hidden = true;
  const moved = (which) => {
    const [first, last] = handles;
    if (Number(first.value) > Number(last.value)) which.value = which === first ? last.value : first.value;
    paint(form, Number(first.value), Number(last.value), read, [from, to], handles);
  };
  for (const each of handles) {
    each.addEventListener("input", () => moved(each));
    each.addEventListener("change", () => {
      moved(each);
      chosen(form, from, to);
    });
  }
  moved(handles[0]);
}

function handle(select, words) {
  const made = document.createElement("input");
  Object.assign(made, { type: "range", min: 0, max: select.options.length - 1, step: 1, id: `${select.id}-handle` });
  made.value = select.selectedIndex;
  made.setAttribute("aria-label", words);
  return made;
}

function paint(form, first, last, read, selects, handles) {
  form.querySelectorAll(".months rect").forEach((bar, month) => bar.classList.toggle("chosen", month >= first && month <= last));
  const words = [first, last].map((month, end) => {
    selects[end].selectedIndex = month;
    const text = selects[end].options[month].text;
    handles[end].setAttribute("aria-valuetext", text);
    return text;
  });
  read.textContent = words[0] === words[1] ? words[0] : `${words[0]} – ${words[1]}`;
}

function chosen(form, from, to) {
  const given = new FormData(form);
  if (from.selectedIndex === 0) given.delete("from");
  if (to.selectedIndex === to.options.length - 1) given.delete("to");
  const query = new URLSearchParams(given);
  const address = query.size ? `${form.action}?${query}` : form.action;
  if (new URL(address, location).href !== location.href) go(address, "same");
}

function lively() {
  slider();
}

document.addEventListener("click", followed);
document.addEventListener("keydown", pressed);
addEventListener("popstate", () => go(location.href, "same", { push: false }));
lively();

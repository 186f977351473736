// Jobs as they go. Without this module the pages say the same when they are loaded anew.

const LIST_MILLISECONDS = 3000;
const WHY_MILLISECONDS = 5000;
const SWAP_MILLISECONDS = 4000; // between two fetches of a page whose parts have changed
const AGAIN_MILLISECONDS = 10000; // after a stream was refused

const number = new Intl.NumberFormat("en-US");

/** 200 → "3 min 20 s", as the page itself spells it. */
function duration(seconds) {
  if (seconds === null) return "–";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [unit, small, size] = whole < 3600 ? ["min", "s", 60] : ["h", "min", 3600];
  const rest = Math.floor((whole % size) / (size / 60));
  return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${small}` : ""}`;
}

function put(root, name, text) {
  const found = root.querySelector(`[data-field="${name}"]`);
  if (found && found.textContent !== text) found.textContent = text;
}

/** A sentence in which commands stand between backticks. */
function speak(place, sentence) {
  if (!place || place.textContent === sentence.replaceAll("`", "")) return;
  const parts = sentence.split("`").map((part, index) => {
    if (index % 2 === 0) return part;
    const code = document.createElement("code");
    code.textContent = part;
    return code;
  });
  place.replaceChildren(...parts);
}

function show(root, job) {
  const { done, total, photos_per_s, seconds_left } = job.progress;
  const bar = root.querySelector('[data-field="bar"]');
  if (bar) {
    bar.max = Math.max(total, 1);
    bar.value = done;
  }
  put(root, "done", number.format(done));
  put(root, "total", number.format(total));
  put(root, "failed", number.format(job.counts.failed ?? 0));
  put(root, "rate", photos_per_s ? photos_per_s.toFixed(1) : "–");
  put(root, "left", duration(seconds_left));
}

/** Takes a part of the page from a fresh copy of it; what somebody is typing into stays. */
async function swap(selector) {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector(selector);
  const old = document.querySelector(selector);
  if (fresh && old && !old.contains(document.activeElement)) old.replaceWith(document.adoptNode(fresh));
}

function watch(address) {
  const root = () => document.querySelector("#live");
  let state = root().dataset.state;
  let listing = null; // whether its source is still being listed; null: nothing was told yet
  let failed = root().querySelector('[data-field="failed"]').textContent;
  let asked = Date.now();
  let swapped = Date.now();

  async function why() {
    asked = Date.now();
    const answer = await fetch(address.replace(/events$/, "why"));
    if (answer.ok) speak(root().querySelector('[data-field="why"]'), (await answer.json()).sentence);
  }

  function told(event) {
    const job = JSON.parse(event.data);
    show(root(), job);
    const listed = listing === true && !job.listing;
    listing = job.listing;
    if (job.state !== state || listed) {
      state = job.state;
      asked = Date.now();
      swap("#live"); // other orders are possible now, or other words are true
    } else if (number.format(job.counts.failed ?? 0) !== failed && Date.now() - swapped > SWAP_MILLISECONDS) {
      failed = number.format(job.counts.failed ?? 0);
      swapped = Date.now();
      swap("#failures");
    }
    if (Date.now() - asked > WHY_MILLISECONDS) why();
  }

  const stream = new EventSource(address);
  stream.addEventListener("job", told);
  stream.addEventListener("end", () => {
    stream.close();
    swap("#live");
  });
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => watch(address), AGAIN_MILLISECONDS);
  });
}

/** Keeps the list of running jobs true: one question for all of them, answered with 304 while nothing changes. */
function poll(place) {
  const shown = () => [...place.querySelectorAll("[data-job]")].map((row) => row.dataset.job).join();
  const states = () => [...place.querySelectorAll('[data-field="state"]')].map((pill) => pill.textContent).join();
  setInterval(async () => {
    if (document.hidden) return;
    const answer = await fetch(place.dataset.poll);
    if (!answer.ok) return;
    const { jobs } = await answer.json();
    const said = jobs.map((job) => job.state.replaceAll("_", " ")).join();
    if (jobs.map((job) => String(job.job_id)).join() !== shown() || said !== states()) {
      await swap("main");
      place = document.querySelector("[data-poll]") ?? place;
      return;
    }
    for (const job of jobs) show(place.querySelector(`[data-job="${job.job_id}"]`), job);
  }, LIST_MILLISECONDS);
}

const live = document.querySelector("[data-events]");
if (live) watch(live.dataset.events);
const list = document.querySelector("[data-poll]");
if (list) poll(list);

/* Completion over the categories: an ARIA combobox with a list, for every field that seeks one.

   The field works without this file: its form is sent. With it, as one types, the list below shows what there is;
   arrows walk through it, Enter takes what is marked (and sends the form where nothing is), Escape closes the list.
   In `data-seek="choose"` a choice fills the form; everywhere else it leads to the category's page. */

const PAUSE = 120; // milliseconds without a key before the server is asked
const SHOWN = 8;
let fields = 0;

class Seeker {
  constructor(input, choose) {
    this.input = input;
    this.choose = choose;
    this.found = [];
    this.marked = -1;
    this.build(`seek-${(fields += 1)}`);
    input.addEventListener("input", () => this.typed());
    input.addEventListener("keydown", (event) => this.key(event));
    input.addEventListener("blur", () => this.close());
  }

  build(id) {
    const set = { role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": id };
    for (const [name, value] of Object.entries(set)) this.input.setAttribute(name, value);
    this.list = element("ul", { id, role: "listbox", class: "seek-list", hidden: "", "aria-label": "Categories" });
    this.list.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
    this.list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.take(Number(option.dataset.at));
    });
    this.status = element("span", { role: "status", class: "hidden" });
    this.input.after(this.list, this.status);
  }

  typed() {
    clearTimeout(this.timer);
    this.asking?.abort();
    if (this.choose) this.chosen?.remove();
    if (!this.input.value.trim()) return this.close();
    this.timer = setTimeout(() => this.ask(this.input.value.trim()), PAUSE);
  }

  async ask(word) {
    this.asking = new AbortController();
    const address = `/v1/categories?${new URLSearchParams({ prefix: word, page_size: SHOWN })}`;
    try {
      const answer = await fetch(address, { signal: this.asking.signal, headers: { accept: "application/json" } });
      if (!answer.ok) return this.close(); // the form still works
      this.show((await answer.json()).categories);
    } catch (error) {
      if (error.name !== "AbortError") this.close();
    }
  }

  show(found) {
    if (document.activeElement !== this.input) return;
    this.found = found;
    this.marked = -1;
    this.list.replaceChildren(...found.map((each, at) => this.option(each, at)));
    this.input.removeAttribute("aria-activedescendant");
    this.open(found.length > 0);
    const many = found.length === SHOWN ? "The first 8 categories" : `${found.length} categories`;
    this.status.textContent = found.length === 1 ? "1 category." : found.length ? `${many}.` : "No category.";
  }

  option(each, at) {
    const option = element("li", { role: "option", id: `${this.list.id}-${at}`, "aria-selected": "false", "data-at": at });
    const many = each.photos === null ? "" : `${each.photos.toLocaleString("en")} photo${each.photos === 1 ? "" : "s"}`;
    const typed = this.input.value.trim().toLowerCase();
    const begins = (name) => name.toLowerCase().startsWith(typed);
    const alias = begins(each.name) ? undefined : each.aliases.find(begins);
    const above = each.path.length ? `in ${each.path.at(-1).name}: ` : "";
    option.append(
      element("b", {}, alias ? `${each.name} (${alias})` : each.name), element("span", { class: "count" }, each.withheld ? "few people" : many),
      element("span", { class: "gloss" }, above + each.gloss),
    );
    return option;
  }

  key(event) {
    const open = !this.list.hidden;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (open) this.mark(this.marked + (event.key === "ArrowDown" ? 1 : -1));
      else if (this.found.length && this.input.value.trim()) this.open(true);
    } else if (event.key === "Enter" && open && this.marked >= 0) {
      event.preventDefault();
      this.take(this.marked);
    } else if (event.key === "Escape" && open) {
      event.preventDefault();
      this.close();
    }
  }

  mark(at) {
    const options = [...this.list.children];
    this.marked = (at + 1 + options.length + 1) % (options.length + 1) - 1; // -1: back in the field
    options.forEach((option, i) => option.setAttribute("aria-selected", String(i === this.marked)));
    const option = options[this.marked];
    if (option) {
      this.input.setAttribute("aria-activedescendant", option.id);
      option.scrollIntoView({ block: "nearest" });
    } else this.input.removeAttribute("aria-activedescendant");
  }

  take(at) {
    const each = this.found[at];
    this.close();
    if (!this.choose) return location.assign(`/c/${each.wnid}`);
    this.chosen?.remove();
    this.chosen = element("input", { type: "hidden", name: "node", value: each.wnid });
    this.input.value = each.name;
    this.input.form.append(this.chosen);
    this.input.form.querySelector("button[type=submit]").focus();
  }

  open(yes) {
    this.list.hidden = !yes;
    this.input.setAttribute("aria-expanded", String(yes));
  }

  close() {
    clearTimeout(this.timer);
    this.asking?.abort();
    this.open(false);
    this.marked = -1;
    this.input.removeAttribute("aria-activedescendant");
    this.status.textContent = "";
  }
}

function element(name, attributes, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

for (const input of document.querySelectorAll("form[role=search] input[type=search], [data-seek] input")) {
  if (input.getAttribute("role") === "combobox") continue;
  if (!input.parentElement.matches(".seek")) {
    const around = element("div", { class: "seek" });
    input.replaceWith(around);
    around.append(input);
  }
  new Seeker(input, input.parentElement.dataset.seek === "choose");
}

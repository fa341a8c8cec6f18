const FIXED = [
  { title: "run", of: (row) => row.name },
  { title: "status", of: (row) => row.status },
  { title: "started (UTC)", of: (row) => row.started },
  { title: "by", of: (row) => row.user },
];
const AT_ONCE = 50;

/** Numbers by size and before words; what is missing comes last either way. */
function compare(one, other, descending) {
  const missing = (value) => value === null || value === undefined || value === "";
  if (missing(one) || missing(other)) return missing(one) - missing(other);
  const [a, b] = [Number(one), Number(other)];
  const numbers = [Number.isNaN(a), Number.isNaN(b)];
  let order = numbers[0] - numbers[1];
  if (!numbers[0] && !numbers[1]) order = a - b;
  if (numbers[0] && numbers[1]) order = String(one).localeCompare(String(other));
  return descending ? -order : order;
}

/** Whether every word of the search is somewhere in the row. */
function fits(row, search, columns) {
  const named = columns.map((column, place) => `${column.title}=${row.values[place] ?? ""}`);
  const text = [row.name, row.id, row.status, row.user, ...named].join(" ").toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

/** The ids from one row to another, in the order shown. */
function between(rows, from, to) {
  const ends = [from, to].map((id) => rows.findIndex((row) => row.id === id));
  if (ends.includes(-1)) return [to];
  return rows.slice(Math.min(...ends), Math.max(...ends) + 1).map((row) => row.id);
}

function render({ model, el }) {
  const view = { search: "", sort: null, descending: false, most: AT_ONCE, last: null };
  const columns = () => [
    ...FIXED,
    ...model.get("columns").map((column, place) => ({ title: column.title, of: (row) => row.values[place] })),
  ];
  const said = make("span", { role: "status", class: "modelyard-quiet" });
  const search = make("input", {
    type: "search",
    placeholder: "search, e.g. depth=6",
    "aria-label": "Search runs",
    oninput: () => {
      view.search = search.value.trim();
      view.most = AT_ONCE;
      drawRows();
    },
  });
  const none = make("button", { type: "button", onclick: () => choose([]) }, "Clear selection");
  const head = make("tr");
  const body = make("tbody");
  const more = make("button", {
    type: "button",
    onclick: () => {
      view.most += AT_ONCE;
      drawRows();
    },
  });

  function found() {
    const rows = model.get("rows").filter((row) => fits(row, view.search, model.get("columns")));
    const column = columns()[view.sort];
    if (!column) return rows;
    return rows.sort((one, other) => compare(column.of(one), column.of(other), view.descending));
  }

  function choose(ids) {
    model.set("selected", ids);
    model.save_changes();
    drawSelection();
  }

  function toggle(id, event) {
    const selected = new Set(model.get("selected"));
    const wanted = event.shiftKey && view.last ? between(found(), view.last, id) : [id];
    const on = !selected.has(id);
    for (const one of wanted) on ? selected.add(one) : selected.delete(one);
    view.last = id;
    choose(model.get("rows").map((row) => row.id).filter((one) => selected.has(one)));
  }

  function drawHead() {
    const cells = columns().map((column, place) => {
      const sorted = view.sort === place;
      const mark = sorted ? (view.descending ? " ▼" : " ▲") : "";
      const sort = () => {
        view.descending = sorted ? !view.descending : false;
        view.sort = place;
        drawHead();
        drawRows();
        head.children[place + 1].firstChild.focus();
      };
      const order = sorted ? (view.descending ? "descending" : "ascending") : "none";
      const button = make("button", { type: "button", onclick: sort }, column.title + mark);
      return make("th", { scope: "col", "aria-sort": order }, button);
    });
    head.replaceChildren(make("th", { scope: "col" }, make("span", { class: "modelyard-unseen" }, "chosen")), ...cells);
  }

  function drawRows() {
    const rows = found();
    body.replaceChildren(
      ...rows.slice(0, view.most).map((row) => {
        const box = make("input", {
          type: "checkbox",
          "aria-label": `Choose ${row.name} ${row.id.slice(0, 8)}`,
          "data-run": row.id,
          onclick: (event) => toggle(row.id, event),
        });
        const name = make("th", { scope: "row" }, `${row.name} `, make("code", {}, row.id.slice(0, 8)));
        const cells = columns()
          .slice(1)
          .map((column) => column.of(row))
          .map((value) => make("td", {}, typeof value === "number" ? number(value) : String(value ?? "–")));
        return make("tr", {}, make("td", {}, box), name, ...cells);
      }),
    );
    more.hidden = rows.length <= view.most;
    more.textContent = `Show ${Math.min(AT_ONCE, rows.length - view.most)} more of ${rows.length}`;
    drawSelection();
  }

  function drawSelection() {
    const selected = new Set(model.get("selected"));
    for (const box of body.querySelectorAll("input")) {
      box.checked = selected.has(box.dataset.run);
      box.closest("tr").classList.toggle("modelyard-chosen", box.checked);
    }
    none.disabled = selected.size === 0;
    said.textContent = `${found().length} of ${model.get("rows").length} runs, ${selected.size} chosen`;
  }

  function draw() {
    drawHead();
    drawRows();
  }

  el.classList.add("modelyard-widget", "modelyard-run-table");
  el.append(
    make("div", { class: "modelyard-tools" }, search, none, said),
    make("div", { class: "modelyard-scroll" }, make("table", { "aria-label": "Runs" }, make("thead", {}, head), body)),
    more,
  );
  const ends = [watch(model, ["rows", "columns"], draw), watch(model, ["selected"], drawSelection)];
  return () => ends.forEach((end) => end());
}

export { between, compare, fits };
export default { render };

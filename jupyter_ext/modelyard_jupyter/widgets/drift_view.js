const AT_ONCE = 12;
const [WIDTH, HEIGHT] = [600, 60];

/** The share of drifted columns, 0 to 1; null where nobody can say. */
function share(window) {
  return window.enough && window.scored ? window.drifted / window.scored : null;
}

/** What a column's cell shows, and says in full. */
function cellOf(column, window, cell) {
  if (cell === null) return { text: "–", words: `${column} is not in the window of ${window.start}`, drifted: false };
  if (cell.score === null) return { text: "?", words: `${column} could not be scored: ${cell.error}`, drifted: false };
  const words =
    `${column}, window of ${window.start}: ${cell.method} ${number(cell.score)}, threshold ${number(cell.threshold)}, ` +
    `${cell.drifted ? "drifted" : "not drifted"}, ${Math.round(cell.missing * 100)} % missing`;
  return { text: (cell.drifted ? "▲ " : "") + number(cell.score), words, drifted: cell.drifted };
}

function chart(windows) {
  const points = windows.map((window, place) => [place, share(window)]);
  const box = { width: WIDTH, height: HEIGHT, left: 0, right: windows.length - 1, low: 0, high: 1 };
  const known = points.filter(([, y]) => y !== null);
  const last = known.length ? known[known.length - 1][1] : null;
  const words = `Share of drifted columns in ${windows.length} windows, last ${last === null ? "unknown" : `${Math.round(last * 100)} %`}`;
  const line =
    known.length === 1
      ? make("circle", { cx: WIDTH / 2, cy: HEIGHT * (1 - known[0][1]), r: 3 })
      : make("path", { d: path(points, box) });
  const drawing = { role: "img", "aria-label": words, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" };
  return make("figure", {}, make("figcaption", {}, words), make("svg", drawing, make("title", {}, words), line));
}

function render({ model, el }) {
  const view = { newest: null };
  const heading = make("b");
  const said = make("span", { role: "status", class: "modelyard-quiet" });
  const older = make("button", { type: "button", onclick: () => move(-AT_ONCE) }, "◀ Older");
  const newer = make("button", { type: "button", onclick: () => move(AT_ONCE) }, "Newer ▶");
  const drawing = make("div");
  const table = make("table", { role: "grid", "aria-label": "Columns by window", onkeydown: walk });
  const detail = make("p", { role: "status", class: "modelyard-quiet" });

  function move(by) {
    const all = model.get("windows").length;
    view.newest = Math.min(all, Math.max(AT_ONCE, (view.newest ?? all) + by));
    drawTable();
  }

  function tell(words) {
    detail.textContent = words;
  }

  /** Arrow keys go from score to score; the whole table is one stop of the tab key. */
  function walk(event) {
    const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] ?? [0, 0];
    const from = event.target.closest("td");
    const rows = [...table.querySelectorAll("tbody:not(.modelyard-whole) tr")];
    const to = rows[rows.indexOf(from?.parentElement) + down]?.cells[from.cellIndex + right];
    if ((!down && !right) || !from || to?.tagName !== "TD") return;
    event.preventDefault();
    from.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  }

  function row(name, cells) {
    return make("tr", {}, make("th", { scope: "row" }, name), cells);
  }

  function scores(column, place, windows) {
    const cells = windows.map((window) => {
      const cell = cellOf(column, window, window.cells[place]);
      const kind = cell.drifted ? "modelyard-drifted" : "";
      const reached = () => tell(cell.words);
      return make("td", { class: kind, tabindex: -1, onmouseenter: reached, onfocus: reached }, cell.text);
    });
    return row(column, cells);
  }

  function drawTable() {
    const all = model.get("windows");
    const end = view.newest ?? all.length;
    const windows = all.slice(Math.max(0, end - AT_ONCE), end);
    const head = windows.map((window) => make("th", { scope: "col", title: `${window.start} to ${window.end} UTC` }, window.start.slice("2013-".length)));
    const plain = (name, of) => row(name, windows.map((window) => make("td", {}, of(window))));
    const counted = (window) => (window.enough ? `${window.drifted ? "▲" : "✓"} ${window.drifted} of ${window.scored}` : "too few rows");
    const names = [...new Set(windows.flatMap((window) => Object.keys(window.quality)))];
    table.replaceChildren(
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "column"), head)),
      make("tbody", {}, model.get("columns").map((column, place) => scores(column, place, windows))),
      make(
        "tbody",
        { class: "modelyard-whole" },
        plain("drifted columns", counted),
        plain("rows", (window) => String(window.rows)),
        plain("labelled", (window) => String(window.labelled)),
        names.flatMap((name) => [
          plain(name, (window) => number(window.quality[name])),
          windows.some((window) => name in window.reference)
            ? plain(`${name} of the reference`, (window) => number(window.reference[name]))
            : null,
        ]),
      ),
    );
    const first = table.querySelector("td[tabindex]");
    if (first) first.tabIndex = 0;
    older.disabled = end <= AT_ONCE;
    newer.disabled = end >= all.length;
    const days = windows.length ? `, ${windows[0].start} to ${windows[windows.length - 1].end} UTC` : "";
    said.textContent = `windows ${Math.max(1, end - AT_ONCE + 1)} to ${end} of ${all.length}${days}`;
    scroll.scrollLeft = scroll.scrollWidth;
  }

  function draw() {
    const windows = model.get("windows");
    view.newest = null;
    heading.textContent = `Drift of ${model.get("title")}`;
    const empty = windows.length === 0;
    for (const part of [older, newer, scroll]) part.hidden = empty;
    if (empty) {
      drawing.replaceChildren(make("p", {}, "No window has closed yet."));
      said.textContent = "";
      return;
    }
    drawing.replaceChildren(chart(windows));
    drawTable();
  }

  const scroll = make("div", { class: "modelyard-scroll" }, table);
  el.classList.add("modelyard-widget", "modelyard-drift-view");
  el.append(make("div", { class: "modelyard-tools" }, heading, older, newer, said), drawing, scroll, detail);
  return watch(model, ["windows", "columns", "title"], draw);
}

export { cellOf, share };
export default { render };

const [WIDTH, HEIGHT] = [240, 80];

/** A curve in one sentence, for those who do not see it. */
function inWords(curve) {
  const ys = curve.points.map(([, y]) => y).filter((y) => y !== null);
  const [step] = curve.points[curve.points.length - 1];
  if (!ys.length) return `${curve.name}: no number yet`;
  const range = `between ${number(Math.min(...ys))} and ${number(Math.max(...ys))}`;
  return `${curve.name}: ${number(curve.last)} at step ${step}, ${range}`;
}

function drawn(curve) {
  const box = around(curve.points, WIDTH, HEIGHT);
  const known = curve.points.filter(([, y]) => y !== null);
  const line =
    known.length === 1
      ? make("circle", { cx: WIDTH / 2, cy: HEIGHT / 2, r: 3 })
      : make("path", { d: path(curve.points, box) });
  const words = inWords(curve);
  return make("svg", { role: "img", "aria-label": words, viewBox: `0 0 ${WIDTH} ${HEIGHT}` }, make("title", {}, words), line);
}

function render({ model, el }) {
  const title = make("span", { role: "status" });
  const problem = make("p", { role: "alert", hidden: true });
  const charts = make("div", { class: "modelyard-charts" });
  const body = make("tbody");
  const head = ["metric", "last", "step", "lowest", "highest"].map((name) => make("th", { scope: "col" }, name));

  function drawTitle() {
    title.textContent = `Run ${model.get("title")}: ${model.get("status")}`;
    problem.textContent = model.get("problem");
    problem.hidden = !model.get("problem");
  }

  function drawCurves() {
    const curves = model.get("curves");
    charts.replaceChildren(
      ...curves.map((curve) => {
        const [step] = curve.points[curve.points.length - 1];
        const caption = make("figcaption", {}, make("b", {}, curve.name), ` ${number(curve.last)} `);
        caption.append(make("span", { class: "modelyard-quiet" }, `step ${step}`));
        return make("figure", {}, caption, drawn(curve));
      }),
    );
    if (!curves.length) charts.append(make("p", { class: "modelyard-quiet" }, "Nothing is logged yet."));
    body.replaceChildren(
      ...curves.map((curve) => {
        const ys = curve.points.map(([, y]) => y).filter((y) => y !== null);
        const [step] = curve.points[curve.points.length - 1];
        const lowest = ys.length ? Math.min(...ys) : null;
        const highest = ys.length ? Math.max(...ys) : null;
        const cells = [number(curve.last), step, number(lowest), number(highest)];
        return make("tr", {}, make("th", { scope: "row" }, curve.name), cells.map((cell) => make("td", {}, String(cell))));
      }),
    );
  }

  el.classList.add("modelyard-widget", "modelyard-live-metrics");
  const table = make("table", {}, make("thead", {}, make("tr", {}, head)), body);
  const numbers = make("details", {}, make("summary", {}, "Numbers"), make("div", { class: "modelyard-scroll" }, table));
  el.append(make("div", { class: "modelyard-tools" }, title), problem, charts, numbers);
  const ends = [
    watch(model, ["title", "status", "problem"], drawTitle),
    watch(model, ["curves"], drawCurves),
  ];
  return () => ends.forEach((end) => end());
}

export { around, inWords, path };
export default { render };

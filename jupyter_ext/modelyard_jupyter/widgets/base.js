const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "path", "circle", "title"]);

/** An element with attributes, listeners (`onclick`) and children; text is never read as HTML. */
function make(tag, attributes = {}, ...children) {
  const made = DRAWN.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made[name] = value;
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

/** A measured value for people. */
function number(value) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4)) return value.toExponential(3);
  return String(Number(value.toPrecision(4)));
}

/** SVG's path through [x, y] points in a box; points without a y leave a gap. */
function path(points, box) {
  let drawn = "";
  let pen = "M";
  for (const [x, y] of points) {
    if (y === null) {
      pen = "M";
      continue;
    }
    const across = box.width * (box.right > box.left ? (x - box.left) / (box.right - box.left) : 0.5);
    const down = box.height * (box.high > box.low ? 1 - (y - box.low) / (box.high - box.low) : 0.5);
    drawn += `${pen}${across.toFixed(1)} ${down.toFixed(1)}`;
    pen = "L";
  }
  return drawn;
}

/** The box around points, drawn in `width` by `height`. */
function around(points, width, height) {
  const ys = points.map(([, y]) => y).filter((y) => y !== null);
  return {
    width,
    height,
    left: points.length ? points[0][0] : 0,
    right: points.length ? points[points.length - 1][0] : 0,
    low: Math.min(...ys),
    high: Math.max(...ys),
  };
}

/** Calls `draw` now and after each change of the named traits; returns what ends that. */
function watch(model, names, draw) {
  const events = names.map((name) => `change:${name}`);
  for (const event of events) model.on(event, draw);
  draw();
  return () => events.forEach((event) => model.off(event, draw));
}

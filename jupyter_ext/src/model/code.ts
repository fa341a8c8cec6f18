/** Python that loads a run; what is dragged into a cell or inserted by key. */
export function runCode(id: string): string {
  return `import modelyard\n\nyard = modelyard.open()\nrun = yard.runs.get(${python(id)})\nrun\n`;
}

/** Python that makes a table of some runs. */
export function comparisonCode(ids: readonly string[]): string {
  const list = ids.map(id => `    ${python(id)},\n`).join('');
  return (
    'import modelyard\nimport pandas as pd\n\nyard = modelyard.open()\n' +
    `runs = yard.runs.compare([\n${list}])\n` +
    'pd.DataFrame({run.name + " " + run.id[:6]: {**run.params, **run.metrics} for run in runs})\n'
  );
}

/** A text as Python writes it. */
export function python(text: string): string {
  return JSON.stringify(text);
}

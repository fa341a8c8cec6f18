import * as React from 'react';

import { Comparison, Curve, Difference } from '../api/types';
import { CommandIDs } from '../commandids';
import { comparisonCode } from '../model/code';
import { Line } from '../model/chart';
import { number } from '../model/format';
import { YardModel } from '../model/yard';
import { Answer } from './answer';
import { Button, Copyable, RunStatus, Time } from './bits';
import { LineChart } from './chart';
import { h } from './h';
import { useApp } from './hooks';

/** The tab that shows runs side by side. */
export function CompareTab(props: { model: YardModel; runs: string[] }): JSX.Element {
  const { model } = props;
  const runs = props.runs.join(',');
  return (
    <Answer model={model} ask={() => model.get<Comparison>(['compare'], { runs })} about={runs}>
      {comparison => <Sides model={model} comparison={comparison} />}
    </Answer>
  );
}

function Sides(props: { model: YardModel; comparison: Comparison }): JSX.Element {
  const { trans, commands } = useApp();
  const { runs, lines } = props.comparison;
  const [all, setAll] = React.useState(false);
  const shown = all ? lines : lines.filter(line => line.differs);
  const metrics = lines.filter(line => line.kind === 'metric').map(line => line.name);
  return (
    <>
      <h1>{trans.__('Compare %1 runs', runs.length)}</h1>
      <label className="modelyard-Check">
        <input type="checkbox" checked={!all} onChange={() => setAll(!all)} />
        {trans.__('Only differences')}
      </label>
      <div className="modelyard-Wide" tabIndex={0} role="region" aria-label={trans.__('Comparison')}>
        <table className="modelyard-Table modelyard-Compare">
          <thead>
            <tr>
              <th scope="col">{trans.__('What')}</th>
              {runs.map(run => (
                <th scope="col" key={run.id}>
                  <Button onClick={() => void commands.execute(CommandIDs.openRun, { run: run.id })}>
                    {run.name}
                  </Button>
                  <div className="modelyard-Hint">
                    {run.id.slice(0, 8)} · <RunStatus status={run.status} /> · <Time at={run.started} />
                  </div>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.map(line => (
              <tr key={`${line.kind} ${line.name}`}>
                <th scope="row">
                  {line.name} <span className="modelyard-Hint">{kindWord(line.kind, trans)}</span>
                </th>
                {line.values.map((value, index) => (
                  <td
                    key={index}
                    className={line.differs ? 'modelyard-mod-varies' : undefined}
                    title={value === null ? undefined : String(value)}
                  >
                    {number(value)}
                    {mark(line, index)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {!shown.length && <p>{trans.__('These runs do not differ in anything that was recorded.')}</p>}
      {metrics.length > 0 && (
        <MetricChart model={props.model} comparison={props.comparison} metrics={metrics} />
      )}
      <h2>{trans.__('As a table in Python')}</h2>
      <Copyable code={comparisonCode(runs.map(run => run.id))} insert />
    </>
  );
}

function kindWord(kind: Difference['kind'], trans: { __: (text: string) => string }): string {
  const words = {
    param: trans.__('parameter'),
    metric: trans.__('metric'),
    data: trans.__('data'),
    code: trans.__('code')
  };
  return words[kind];
}

/** The largest and the smallest of a metric, said in words: which of them is better we do not know. */
function mark(line: Difference, index: number): React.ReactNode {
  if (line.kind !== 'metric' || !line.differs) {
    return null;
  }
  const known = line.values.filter((value): value is number => typeof value === 'number');
  const value = line.values[index];
  if (known.length < 2 || typeof value !== 'number') {
    return null;
  }
  if (value === Math.max(...known)) {
    return <span className="modelyard-Hint"> max</span>;
  }
  return value === Math.min(...known) ? <span className="modelyard-Hint"> min</span> : null;
}

function MetricChart(props: { model: YardModel; comparison: Comparison; metrics: string[] }): JSX.Element {
  const { trans } = useApp();
  const { model, metrics, comparison } = props;
  const [metric, setMetric] = React.useState(metrics[0]);
  const [lines, setLines] = React.useState<Line[] | null>(null);
  React.useEffect(() => {
    let wanted = true;
    const ask = (run: string) => model.get<{ curves: Curve[] }>(['runs', run, 'curves'], { names: metric });
    Promise.all(
      comparison.runs.map(async run => {
        const curve = (await ask(run.id)).curves.find(one => one.name === metric);
        return {
          name: `${run.name} ${run.id.slice(0, 6)}`,
          steps: curve?.steps ?? [],
          values: curve?.values ?? []
        };
      })
    ).then(
      found => wanted && setLines(found),
      () => wanted && setLines([])
    );
    return () => {
      wanted = false;
    };
  }, [model, comparison, metric]);
  return (
    <>
      <h2>{trans.__('Metric over its steps')}</h2>
      <select
        className="modelyard-Input"
        aria-label={trans.__('Metric')}
        value={metric}
        onChange={event => setMetric(event.target.value)}
      >
        {metrics.map(name => (
          <option key={name}>{name}</option>
        ))}
      </select>
      {lines && <LineChart title={metric} lines={lines} />}
    </>
  );
}

import * as React from 'react';

import { Curve, RunDetails } from '../api/types';
import { CommandIDs } from '../commandids';
import { absolute, number } from '../model/format';
import { lasting } from '../model/words';
import { YardModel } from '../model/yard';
import { Answer } from './answer';
import { Button, Chip, Copyable, Facts, RunStatus, Time } from './bits';
import { LineChart } from './chart';
import { h } from './h';
import { useApp, useSignal } from './hooks';
import { Log } from './log';

/** The tab of one run. */
export function RunTab(props: { model: YardModel; run: string }): JSX.Element {
  const { model, run } = props;
  useSignal(model.runs.changed);
  // What the list hears of a running run is news for this tab too.
  const row = model.runs.byId(run);
  const news = row ? `${row.status} ${JSON.stringify(row.metrics)}` : '';
  return (
    <Answer model={model} ask={() => model.get<RunDetails>(['runs', run])} about={`${run} ${news}`}>
      {details => <Details model={model} details={details} />}
    </Answer>
  );
}

function Details(props: { model: YardModel; details: RunDetails }): JSX.Element {
  const { trans, commands } = useApp();
  const { details, model } = props;
  const { row, code } = details;
  const run = row.id;
  const act = (command: string) => void commands.execute(command, { run });
  const seconds = (Date.parse(row.ended ?? new Date().toISOString()) - Date.parse(row.started)) / 1000;
  return (
    <>
      <h1>{row.name}</h1>
      <div className="modelyard-Buttons">
        <Button main onClick={() => act(CommandIDs.insertRunCode)}>
          {trans.__('Insert into cell')}
        </Button>
        {row.notebook && <Button onClick={() => act(CommandIDs.goToCell)}>{trans.__('Go to cell')}</Button>}
        {row.models.length > 0 && (
          <Button onClick={() => act(CommandIDs.registerRun)}>{trans.__('Register model…')}</Button>
        )}
        <Button onClick={() => act(CommandIDs.copyRunId)}>{trans.__('Copy id')}</Button>
      </div>
      <Facts
        rows={[
          [trans.__('Status'), <RunStatus status={row.status} />],
          [trans.__('Id'), <code>{row.id}</code>],
          [
            trans.__('Started'),
            <span>
              {absolute(row.started)} (<Time at={row.started} />)
            </span>
          ],
          [row.ended ? trans.__('Took') : trans.__('Running for'), lasting(seconds, trans)],
          [trans.__('User'), row.user],
          [trans.__('Data'), row.data.length ? row.data.map(one => <div key={one}>{one}</div>) : '–'],
          [trans.__('Models'), row.models.join(', ') || '–'],
          [
            trans.__('Versions'),
            details.versions.length ? details.versions.map(one => <Chip key={one}>{one}</Chip>) : '–'
          ]
        ]}
      />
      <Values
        title={trans.__('Metrics')}
        values={Object.entries(row.metrics).map(([k, v]) => [k, number(v)])}
      />
      <Charts model={model} run={run} news={JSON.stringify(row.metrics)} />
      <Values title={trans.__('Parameters')} values={Object.entries(row.params)} />
      <h2>{trans.__('Code')}</h2>
      <Facts
        rows={[
          [trans.__('Ran from'), code.entry_point || '–'],
          [trans.__('Commit'), code.commit ? <code>{code.commit.slice(0, 12)}</code> : '–'],
          [trans.__('Branch'), code.branch ?? '–'],
          [
            trans.__('Changed files'),
            code.dirty ? code.changed.join(', ') || trans.__('yes') : trans.__('none: the commit says all')
          ],
          ['Python', details.python ?? '–']
        ]}
      />
      {code.source !== null && <Copyable code={code.source} insert />}
      <Values title={trans.__('Tags')} values={Object.entries(details.tags)} />
      <h2>{trans.__('Output')}</h2>
      <Log
        model={model}
        path={['runs', run, 'log']}
        label={trans.__('Output of %1', row.name)}
        empty={trans.__('It printed nothing, or ran on another machine.')}
        about={`${row.status} ${JSON.stringify(row.metrics)}`}
      />
      <h2>{trans.__('Load it')}</h2>
      <Copyable code={details.load_code} insert />
    </>
  );
}

function Values(props: {
  title: string;
  values: readonly (readonly [string, string])[];
}): JSX.Element | null {
  if (!props.values.length) {
    return null;
  }
  return (
    <>
      <h2>{props.title}</h2>
      <Facts rows={props.values} />
    </>
  );
}

function Charts(props: { model: YardModel; run: string; news: string }): JSX.Element {
  const { model, run, news } = props;
  const [curves, setCurves] = React.useState<Curve[]>([]);
  React.useEffect(() => {
    let wanted = true;
    model.get<{ curves: Curve[] }>(['runs', run, 'curves']).then(
      answer => wanted && setCurves(answer.curves),
      () => undefined // the tab itself says what is wrong
    );
    return () => {
      wanted = false;
    };
  }, [model, run, news]);
  const drawn = curves.filter(curve => curve.values.length > 1);
  return (
    <div className="modelyard-Charts">
      {drawn.slice(0, 12).map(curve => (
        <LineChart key={curve.name} title={curve.name} lines={[curve]} small />
      ))}
    </div>
  );
}

import * as React from 'react';

import { CommandIDs } from '../commandids';
import type { DataList, DataRow, Job } from '../api/types';
import { jobWords, progressOf, publishedWord, stateOf } from '../model/transfer';
import { size } from '../model/words';
import type { YardModel } from '../model/yard';
import { SectionCommands } from '../sections/commands';
import { doingsOf } from '../sections/doings';
import { Button, Copyable, Facts, Light } from './bits';
import { Refused } from './fields';
import { h } from './h';
import { useApp, useSignal } from './hooks';
import { SectionBody } from './section';

/** Runs that are named before the rest is only counted. */
const NAMED_RUNS = 5;

/** The section Data: versions, where they stand, who used them; push and pull. */
export function Data(props: { model: YardModel }): JSX.Element {
  const { trans, commands } = useApp();
  const { model } = props;
  return (
    <SectionBody
      section={model.data}
      trans={trans}
      isEmpty={data => !data.rows.length}
      empty={{
        sentence: trans.__('No data set has a version yet.'),
        code: 'yard.data.add("data/train.parquet")',
        action: {
          label: trans.__('Look again'),
          run: () => void commands.execute(CommandIDs.refresh)
        }
      }}
    >
      {data => <DataSets data={data} model={model} />}
    </SectionBody>
  );
}

function DataSets(props: { data: DataList; model: YardModel }): JSX.Element {
  const { trans, commands } = useApp();
  const { data, model } = props;
  const doings = doingsOf(model);
  useSignal(doings.moved);
  const busy = doings.job?.state === 'running';
  const start = (command: string, names: string[]) => {
    if (!busy) {
      void commands.execute(command, { names });
    }
  };
  return (
    <>
      <div className="modelyard-Buttons">
        <Button aria-disabled={busy} onClick={() => start(SectionCommands.pushData, [])}>
          {trans.__('Push all')}
        </Button>
        <Button aria-disabled={busy} onClick={() => start(SectionCommands.pullData, [])}>
          {trans.__('Pull all')}
        </Button>
      </div>
      {doings.job && <Progress job={doings.job} close={() => doings.show(null)} />}
      {data.remote === null && (
        <div className="modelyard-Hint">
          <p>{trans.__('There is no remote to push to yet.')}</p>
          <Copyable code="modelyard data remote ADDRESS" />
        </div>
      )}
      <ul className="modelyard-Cards" aria-label={trans.__('Data sets')}>
        {data.rows.map(row => (
          <DataCard
            key={row.name}
            row={row}
            busy={busy}
            push={() => start(SectionCommands.pushData, [row.name])}
            pull={() => start(SectionCommands.pullData, [row.name])}
          />
        ))}
      </ul>
    </>
  );
}

function DataCard(props: {
  row: DataRow;
  busy: boolean;
  push: () => void;
  pull: () => void;
}): JSX.Element {
  const { trans } = useApp();
  const { row, busy } = props;
  const { light, word } = stateOf(row, trans);
  const files = trans._n('%1 file', '%1 files', row.files);
  return (
    <li className="modelyard-Card" aria-label={row.name}>
      <div className="modelyard-Card-head">
        <h3>{row.name}</h3>
        <Light kind={light} word={word} />
        <Light kind={row.published ? 'ok' : 'warning'} word={publishedWord(row, trans)} />
      </div>
      <Facts
        rows={[
          [trans.__('Version'), <code title={row.version}>{row.version.slice(0, 10)}</code>],
          [trans.__('Path'), row.path],
          [trans.__('Size'), `${size(row.size)}, ${files}`],
          [trans.__('Used by'), <UsedBy runs={row.used_by} />]
        ]}
      />
      <div className="modelyard-Buttons">
        {!row.published && (
          <Button
            aria-disabled={busy}
            aria-label={trans.__('Push %1', row.name)}
            onClick={props.push}
          >
            {trans.__('Push')}
          </Button>
        )}
        {row.state !== 'unchanged' && (
          <Button
            aria-disabled={busy}
            aria-label={trans.__('Pull %1', row.name)}
            onClick={props.pull}
          >
            {trans.__('Pull')}
          </Button>
        )}
      </div>
    </li>
  );
}

function UsedBy(props: { runs: readonly string[] }): JSX.Element {
  const { trans, commands } = useApp();
  const [all, setAll] = React.useState(false);
  const { runs } = props;
  if (!runs.length) {
    return <>{trans.__('no run yet')}</>;
  }
  const shown = all ? runs : runs.slice(0, NAMED_RUNS);
  return (
    <>
      {shown.map(run => (
        <Button
          key={run}
          className="modelyard-mod-link"
          aria-label={trans.__('Open run %1', run.slice(0, 8))}
          onClick={() => void commands.execute(CommandIDs.openRun, { run })}
        >
          {run.slice(0, 8)}
        </Button>
      ))}
      {shown.length < runs.length && (
        <Button className="modelyard-mod-link" onClick={() => setAll(true)}>
          {trans.__('%1 more', runs.length - shown.length)}
        </Button>
      )}
    </>
  );
}

function Progress(props: { job: Job; close: () => void }): JSX.Element {
  const { trans } = useApp();
  const { job } = props;
  const done = progressOf(job);
  const words = jobWords(job, trans);
  return (
    <div className="modelyard-Progress">
      {job.state === 'running' && (
        <progress aria-label={words} max={1} value={done === null ? undefined : done} />
      )}
      <p role="status">{words}</p>
      {job.problem && <Refused problem={job.problem} />}
      {job.state !== 'running' && (
        <Button aria-label={trans.__('Put the message away')} onClick={props.close}>
          {trans.__('Close')}
        </Button>
      )}
    </div>
  );
}

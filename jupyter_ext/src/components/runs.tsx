import * as React from 'react';

import { CommandIDs } from '../commandids';
import { RunsModel, Wanted } from '../model/runs';
import { YardModel } from '../model/yard';
import { Button } from './bits';
import { ColumnChoice } from './columns';
import { h } from './h';
import { useApp, useSignal } from './hooks';
import { RunGrid } from './rungrid';
import { SectionBody } from './section';

const FIRST_RUN = `import modelyard

yard = modelyard.open()
with yard.run("first", params={"depth": 6}) as run:
    run.log({"auc": 0.71})
`;

/** The list of runs with what one does with it. */
export function RunsSection(props: { model: YardModel }): JSX.Element {
  const { trans, insertCode } = useApp();
  const { runs } = props.model;
  useSignal(runs.changed);
  const [choosing, setChoosing] = React.useState(false);
  const filtered = runs.wanted.search !== '' || runs.wanted.status !== '';
  return (
    <div className="modelyard-Runs">
      <Filters runs={runs} />
      <SectionBody
        section={runs}
        trans={trans}
        isEmpty={() => runs.total === 0}
        empty={
          filtered
            ? {
                sentence: trans.__('No run fits.'),
                action: { label: trans.__('Show all runs'), run: () => runs.want({ search: '', status: '' }) }
              }
            : {
                sentence: trans.__('There are no runs yet. Record one from a cell:'),
                action: { label: trans.__('Insert into cell'), run: () => insertCode(FIRST_RUN) },
                code: FIRST_RUN
              }
        }
      >
        {() => (
          <>
            <Chosen runs={runs} />
            {choosing && <ColumnChoice runs={runs} close={() => setChoosing(false)} />}
            <RunGrid runs={runs} choosing={choosing} choose={setChoosing} />
          </>
        )}
      </SectionBody>
    </div>
  );
}

/** Milliseconds without a key before the search is asked. */
const PAUSE = 250;

function Filters(props: { runs: RunsModel }): JSX.Element {
  const { trans } = useApp();
  const { runs } = props;
  const [text, setText] = React.useState(runs.wanted.search);
  const own = React.useRef(text);
  // What was searched from here may be drawn after further letters were typed, which stay.
  React.useEffect(() => {
    if (runs.wanted.search !== own.current) {
      own.current = runs.wanted.search;
      setText(runs.wanted.search);
    }
  }, [runs.wanted.search]);
  React.useEffect(() => {
    if (text === runs.wanted.search) {
      return;
    }
    const timer = window.setTimeout(() => {
      own.current = text;
      runs.want({ search: text });
    }, PAUSE);
    return () => window.clearTimeout(timer);
  }, [text]);
  return (
    <div className="modelyard-Filters">
      <input
        type="search"
        className="modelyard-Input"
        aria-label={trans.__('Search runs')}
        placeholder={trans.__('Name, id, user, depth=6')}
        maxLength={200}
        value={text}
        onChange={event => setText(event.target.value)}
      />
      <select
        className="modelyard-Input"
        aria-label={trans.__('Which runs')}
        value={runs.wanted.status}
        onChange={event => runs.want({ status: event.target.value as Wanted['status'] })}
      >
        <option value="">{trans.__('All')}</option>
        <option value="starred">{trans.__('Starred')}</option>
        <option value="running">{trans.__('Running')}</option>
        <option value="finished">{trans.__('Finished')}</option>
        <option value="failed">{trans.__('Failed')}</option>
        <option value="killed">{trans.__('Killed')}</option>
      </select>
    </div>
  );
}

function Chosen(props: { runs: RunsModel }): JSX.Element {
  const { trans, commands } = useApp();
  const { runs } = props;
  const count = runs.selection.ids.length;
  return (
    <div className="modelyard-Chosen">
      <span role="status">
        {count ? trans.__('%1 selected', count) : trans._n('%1 run', '%1 runs', runs.total, runs.total)}
        {runs.state.data?.more && ` ${trans.__('and older ones to come')}`}
      </span>
      {count > 0 && (
        <>
          <Button
            main
            disabled={count < 2 || count > 8}
            title={trans.__('2 to 8 runs can be compared')}
            onClick={() => void commands.execute(CommandIDs.compareRuns, { runs: runs.selection.ids })}
          >
            {trans.__('Compare')}
          </Button>
          <Button onClick={() => runs.selection.clear()}>{trans.__('Clear')}</Button>
        </>
      )}
    </div>
  );
}

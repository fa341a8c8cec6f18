import * as React from 'react';

import { RunDetails } from '../api/types';
import { mostLike, sideBySide } from '../model/diff';
import { YardModel } from '../model/yard';
import { Answer } from './answer';
import { Button } from './bits';
import { h } from './h';
import { useApp } from './hooks';

/** Reads the code cells of a notebook as they are now; `open` brings it to the front. */
export interface Notebooks {
  sources(path: string): Promise<{ id: string; source: string }[]>;
  go(path: string, cell: string): Promise<boolean>;
}

/** The tab that shows a run's cell as it ran, beside what stands in the notebook now. */
export function SourceTab(props: {
  model: YardModel;
  notebooks: Notebooks;
  run: string;
  path: string;
}): JSX.Element {
  const { model, notebooks, run, path } = props;
  const ask = async () => {
    const details = await model.get<RunDetails>(['runs', run]);
    const cells = await notebooks.sources(path).catch(() => []);
    return { details, cells };
  };
  return (
    <Answer model={model} ask={ask} about={`${run} ${path}`}>
      {({ details, cells }, again) => (
        <Sides details={details} cells={cells} path={path} notebooks={notebooks} again={again} />
      )}
    </Answer>
  );
}

function Sides(props: {
  details: RunDetails;
  cells: { id: string; source: string }[];
  path: string;
  notebooks: Notebooks;
  again: () => void;
}): JSX.Element {
  const { trans } = useApp();
  const { details, cells, path, notebooks } = props;
  const { source, cell } = details.code;
  const same = cells.find(one => one.id === cell);
  const near =
    same ??
    (source === null
      ? undefined
      : cells[
          mostLike(
            source,
            cells.map(one => one.source)
          )
        ]);
  const said = same
    ? trans.__('The cell is still in %1; what differs is marked.', path)
    : near
      ? trans.__('The cell is no longer in %1. Beside it stands the cell that is most like it.', path)
      : trans.__('The cell is no longer in %1, and no cell there is like it.', path);
  return (
    <>
      <h1>{trans.__('The cell of %1', details.row.name)}</h1>
      <p role="status">{said}</p>
      {source === null ? (
        <p>{trans.__('What stood in it when it ran was not recorded.')}</p>
      ) : (
        <Compared left={source} right={near?.source ?? ''} />
      )}
      <div className="modelyard-Buttons">
        {near && (
          <Button main onClick={() => void notebooks.go(path, near.id)}>
            {trans.__('Go to that cell')}
          </Button>
        )}
        <Button onClick={props.again}>{trans.__('Look again')}</Button>
      </div>
    </>
  );
}

function Compared(props: { left: string; right: string }): JSX.Element {
  const { trans } = useApp();
  return (
    <div className="modelyard-Wide" tabIndex={0} role="region" aria-label={trans.__('Both cells')}>
      <table className="modelyard-Table modelyard-Source">
        <thead>
          <tr>
            <th scope="col">{trans.__('When it ran')}</th>
            <th scope="col">{trans.__('Now')}</th>
          </tr>
        </thead>
        <tbody>
          {sideBySide(props.left, props.right).map((pair, index) => (
            <tr key={index}>
              <td className={pair.same ? undefined : 'modelyard-mod-gone'}>
                {side(pair.left, pair.same, '−')}
              </td>
              <td className={pair.same ? undefined : 'modelyard-mod-new'}>
                {side(pair.right, pair.same, '+')}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function side(line: string | null, same: boolean, mark: string): React.ReactNode {
  return line === null ? null : (
    <code>
      {same ? ' ' : mark} {line}
    </code>
  );
}

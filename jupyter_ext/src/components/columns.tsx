import * as React from 'react';

import { allColumns, columnTitle } from '../model/columns';
import { RunsModel } from '../model/runs';
import { Button } from './bits';
import { h } from './h';
import { useApp } from './hooks';

/** Checkboxes for the columns of the list; Escape closes. */
export function ColumnChoice(props: { runs: RunsModel; close: () => void }): JSX.Element {
  const { trans } = useApp();
  const { runs } = props;
  const place = React.useRef<HTMLFieldSetElement>(null);
  React.useEffect(() => {
    const from = document.activeElement as HTMLElement | null;
    place.current?.querySelector('input')?.focus();
    return () => from?.focus();
  }, []);
  const { metric_names, param_names } = runs.state.data ?? { metric_names: [], param_names: [] };
  const toggle = (column: string) => {
    const { columns } = runs;
    const there = columns.includes(column);
    runs.columns = there ? columns.filter(one => one !== column) : [...columns, column];
  };
  return (
    <fieldset
      ref={place}
      className="modelyard-Columns"
      onKeyDown={event => {
        if (event.key === 'Escape') {
          event.stopPropagation();
          props.close();
        }
      }}
    >
      <legend>{trans.__('Columns')}</legend>
      {allColumns(metric_names, param_names).map(column => (
        <label key={column}>
          <input type="checkbox" checked={runs.columns.includes(column)} onChange={() => toggle(column)} />
          {columnTitle(column, trans)}
          <span className="modelyard-Hint"> {kindOf(column, trans.__('metric'), trans.__('parameter'))}</span>
        </label>
      ))}
      <Button onClick={props.close}>{trans.__('Done')}</Button>
    </fieldset>
  );
}

function kindOf(column: string, metric: string, param: string): string {
  return column.startsWith('metric:') ? metric : column.startsWith('param:') ? param : '';
}

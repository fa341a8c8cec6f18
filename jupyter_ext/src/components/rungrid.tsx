import * as React from 'react';

import { RunRow } from '../api/types';
import { CommandIDs } from '../commandids';
import { runCode } from '../model/code';
import { cellText, columnTitle, isSortable, window as windowOf } from '../model/columns';
import { RunsModel } from '../model/runs';
import { RunStatus, Sparkline, Time } from './bits';
import { h } from './h';
import { useApp } from './hooks';
import { openRunMenu } from './runmenu';

/** Pixels of a row; the style sheet says the same. */
const ROW = 28;

/** The list of runs as a grid: only what is on the screen is drawn, whatever its length. */
export function RunGrid(props: {
  runs: RunsModel;
  choosing: boolean;
  choose: (open: boolean) => void;
}): JSX.Element {
  const { trans } = useApp();
  const { runs } = props;
  const box = React.useRef<HTMLDivElement>(null);
  const [[first, last], setWindow] = React.useState<[number, number]>([0, 30]);
  const { total } = runs;

  const measure = React.useCallback(() => {
    if (!box.current) {
      return; // the list has just gone; the browser tells sizes and scrolling a moment later
    }
    const { scrollTop, clientHeight } = box.current;
    const next = windowOf(scrollTop, clientHeight, ROW, runs.total);
    setWindow(known => (known[0] === next[0] && known[1] === next[1] ? known : next));
  }, [runs]);
  React.useEffect(() => {
    const watcher = new ResizeObserver(measure);
    watcher.observe(box.current!);
    return () => watcher.disconnect();
  }, [measure]);
  React.useEffect(measure, [total, measure]);
  React.useEffect(() => runs.show(first, last), [runs, first, last, total]);
  useCurves(runs, first, last);

  const keys = useKeys(runs, box);
  const current = runs.selection.current === null ? 0 : Math.max(0, runs.indexOf(runs.selection.current));
  const { columns } = runs;
  const shown: number[] = [];
  for (let index = first; index <= Math.min(last, total - 1); index++) {
    shown.push(index);
  }
  // The row that has the focus stays drawn, or the focus would be lost by scrolling.
  if (current < total && (current < first || current > last)) {
    shown.push(current);
  }
  return (
    <div
      ref={box}
      className="modelyard-RunGrid"
      role="grid"
      aria-label={trans.__('Runs')}
      aria-rowcount={total + 1}
      aria-colcount={runs.columns.length + 3}
      aria-multiselectable="true"
      onScroll={measure}
      onKeyDown={keys}
    >
      <Header {...props} />
      <div
        role="rowgroup"
        className="modelyard-RunGrid-body"
        style={{ height: total * ROW, minWidth: narrowest(runs) }}
      >
        {shown.map(index => {
          const row = runs.row(index);
          return row ? (
            <Row
              key={row.id}
              runs={runs}
              row={row}
              index={index}
              tabbable={index === current}
              selected={runs.selection.has(row.id)}
              starred={runs.isStarred(row.id)}
              columns={columns.join('\n')}
              curve={curveOf(runs, row)}
            />
          ) : (
            <div
              key={index}
              className="modelyard-RunRow"
              role="row"
              aria-rowindex={index + 2}
              style={place(index)}
            >
              <span role="gridcell" className="modelyard-Hint">
                …
              </span>
            </div>
          );
        })}
      </div>
    </div>
  );
}

function place(index: number): React.CSSProperties {
  return { transform: `translateY(${index * ROW}px)` };
}

/** Pixels below which the list scrolls sideways; the widths of the style sheet, so that head and rows agree. */
function narrowest(runs: RunsModel): number {
  return 8 + 22 + 72 + 54 * runs.columns.length + 46;
}

/** Ask for the curves of the rows on the screen once scrolling has stopped. */
function useCurves(runs: RunsModel, first: number, last: number): void {
  const metric = runs.columns.includes('curve') ? runs.mainMetric : null;
  const { updated } = runs.state;
  React.useEffect(() => {
    if (metric === null) {
      return;
    }
    const timer = window.setTimeout(() => {
      const ids: string[] = [];
      for (let index = first; index <= last; index++) {
        const row = runs.row(index);
        if (row) {
          ids.push(row.id);
        }
      }
      runs.curves.want(ids, metric);
    }, 150);
    return () => window.clearTimeout(timer);
  }, [runs, first, last, metric, updated]);
}

function Header(props: { runs: RunsModel; choosing: boolean; choose: (open: boolean) => void }): JSX.Element {
  const { trans } = useApp();
  const { runs } = props;
  return (
    <div role="rowgroup" className="modelyard-RunGrid-head" style={{ minWidth: narrowest(runs) }}>
      <div role="row" aria-rowindex={1} className="modelyard-RunRow">
        <span role="columnheader" className="modelyard-RunRow-check">
          <span className="modelyard-Hidden">{trans.__('Selected')}</span>
        </span>
        <SortHeader runs={runs} column="name" title={trans.__('Run')} className="modelyard-RunRow-name" />
        {runs.columns.map(column => (
          <SortHeader
            key={column}
            runs={runs}
            column={column}
            title={columnTitle(column, trans)}
            className="modelyard-RunRow-cell"
          />
        ))}
        <span role="columnheader" className="modelyard-RunRow-star">
          <button
            type="button"
            aria-label={trans.__('Columns')}
            title={trans.__('Choose columns')}
            aria-expanded={props.choosing}
            onClick={() => props.choose(!props.choosing)}
          >
            +
          </button>
        </span>
      </div>
    </div>
  );
}

function SortHeader(props: {
  runs: RunsModel;
  column: string;
  title: string;
  className: string;
}): JSX.Element {
  const { runs, column, title, className } = props;
  const { sort, descending } = runs.wanted;
  if (!isSortable(column)) {
    return (
      <span role="columnheader" className={className}>
        {title}
      </span>
    );
  }
  const mine = sort === column;
  return (
    <span
      role="columnheader"
      className={className}
      aria-sort={mine ? (descending ? 'descending' : 'ascending') : 'none'}
    >
      <button
        type="button"
        title={title}
        onClick={() => runs.want({ sort: column, descending: mine ? !descending : column !== 'name' })}
      >
        {title}
        <span aria-hidden="true">{mine ? (descending ? ' ▾' : ' ▴') : ''}</span>
      </button>
    </span>
  );
}

/** Everything that a row shows: one that did not change is not drawn again, however often others are told. */
interface RowProps {
  runs: RunsModel;
  row: RunRow;
  index: number;
  tabbable: boolean;
  selected: boolean;
  starred: boolean;
  /** One column a line. */
  columns: string;
  curve: readonly (number | null)[] | null;
}

const Row = React.memo(function Row(props: RowProps): JSX.Element {
  const { commands, trans } = useApp();
  const { runs, row, index, selected, starred, curve } = props;
  const select = (range: boolean) =>
    range
      ? runs.selection.extend(row.id, (from, to) => between(runs, from, to))
      : runs.selection.toggle(row.id);
  return (
    <div
      role="row"
      className={`modelyard-RunRow${selected ? ' modelyard-mod-selected' : ''}`}
      aria-rowindex={index + 2}
      aria-selected={selected}
      data-run={row.id}
      tabIndex={props.tabbable ? 0 : -1}
      style={place(index)}
      draggable
      onDragStart={event => {
        event.dataTransfer.setData('text/plain', runCode(row.id));
        event.dataTransfer.effectAllowed = 'copy';
      }}
      onFocus={() => (runs.selection.current = row.id)}
      onClick={event =>
        event.shiftKey || event.ctrlKey || event.metaKey ? select(event.shiftKey) : undefined
      }
      onDoubleClick={() => void commands.execute(CommandIDs.openRun, { run: row.id })}
      onContextMenu={event => openRunMenu(commands, row, event)}
    >
      <span role="gridcell" className="modelyard-RunRow-check">
        <input
          type="checkbox"
          tabIndex={-1}
          aria-label={trans.__('Select %1', row.name)}
          checked={selected}
          onChange={() => undefined}
          onClick={event => {
            event.stopPropagation();
            select(event.shiftKey);
          }}
        />
      </span>
      <span role="gridcell" className="modelyard-RunRow-name" title={`${row.name} (${row.id})`}>
        <RunStatus status={row.status} quiet />
        <span className="modelyard-RunRow-label">{row.name}</span>
      </span>
      {(props.columns ? props.columns.split('\n') : []).map(column => (
        <span key={column} role="gridcell" className="modelyard-RunRow-cell">
          <Cell row={row} column={column} curve={curve} metric={runs.mainMetric} />
        </span>
      ))}
      <span role="gridcell" className="modelyard-RunRow-star">
        <button
          type="button"
          tabIndex={-1}
          aria-pressed={starred}
          aria-label={trans.__('Star %1', row.name)}
          onClick={() => runs.star(row.id)}
        >
          {starred ? '★' : '☆'}
        </button>
        <button
          type="button"
          tabIndex={-1}
          aria-haspopup="menu"
          aria-label={trans.__('More about %1', row.name)}
          onClick={event => openRunMenu(commands, row, event)}
        >
          ⋯
        </button>
      </span>
    </div>
  );
});

function curveOf(runs: RunsModel, row: RunRow): readonly (number | null)[] | null {
  const metric = runs.columns.includes('curve') ? runs.mainMetric : null;
  return metric === null ? null : runs.curves.of(row.id, metric);
}

function Cell(props: {
  row: RunRow;
  column: string;
  curve: readonly (number | null)[] | null;
  metric: string | null;
}): JSX.Element {
  const { trans } = useApp();
  const { row, column, curve } = props;
  if (column === 'started') {
    return <Time at={row.started} short />;
  }
  if (column === 'status') {
    return <RunStatus status={row.status} />;
  }
  if (column === 'curve') {
    // One point is no curve: its number stands in the row already.
    return curve && curve.length > 1 ? (
      <Sparkline values={curve} label={trans.__('%1 over its steps', props.metric)} />
    ) : (
      <></>
    );
  }
  const text = cellText(row, column);
  return <span title={text}>{text}</span>;
}

function between(runs: RunsModel, from: string, to: string): string[] {
  const [a, b] = [runs.indexOf(from), runs.indexOf(to)].sort((one, other) => one - other);
  if (a < 0) {
    return [to];
  }
  const ids: string[] = [];
  for (let index = a; index <= b; index++) {
    const row = runs.row(index);
    if (row) {
      ids.push(row.id);
    }
  }
  return ids;
}

/** Arrows move, space selects, shift extends, enter opens, shift+F10 is the menu. */
function useKeys(
  runs: RunsModel,
  box: React.RefObject<HTMLDivElement>
): (event: React.KeyboardEvent) => void {
  const { commands } = useApp();
  const goal = React.useRef<number | null>(null);
  // A row far away is drawn only after the list was scrolled there and its page came: then it gets the focus.
  React.useEffect(() => {
    const row = goal.current === null ? null : runs.row(goal.current);
    const node = row && box.current?.querySelector<HTMLElement>(`[data-run="${CSS.escape(row.id)}"]`);
    if (node) {
      goal.current = null;
      node.focus({ preventScroll: true });
    }
  });
  return event => {
    const target = event.target as HTMLElement;
    if (target.closest('button, input') || !target.closest('[data-run]')) {
      return;
    }
    const id = target.closest<HTMLElement>('[data-run]')!.dataset.run!;
    const here = runs.indexOf(id);
    const page = Math.max(1, Math.floor(box.current!.clientHeight / ROW) - 2);
    const steps: Record<string, number> = {
      ArrowDown: here + 1,
      ArrowUp: here - 1,
      PageDown: here + page,
      PageUp: here - page,
      Home: 0,
      End: runs.total - 1
    };
    if (event.key in steps) {
      const index = Math.min(runs.total - 1, Math.max(0, steps[event.key]));
      goal.current = index;
      scrollTo(box.current!, index);
      const row = runs.row(index);
      if (row && event.shiftKey) {
        runs.selection.extend(row.id, (from, to) => between(runs, from, to));
      } else {
        runs.selection.current = row?.id ?? runs.selection.current;
      }
    } else if (event.key === ' ') {
      if (event.shiftKey) {
        runs.selection.extend(id, (from, to) => between(runs, from, to));
      } else {
        runs.selection.toggle(id);
      }
    } else if (event.key === 'Enter') {
      void commands.execute(CommandIDs.openRun, { run: id });
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };
}

function scrollTo(box: HTMLElement, index: number): void {
  const head = ROW; // the header stays on top
  const [top, bottom] = [index * ROW, (index + 1) * ROW + head];
  if (top < box.scrollTop) {
    box.scrollTop = top;
  } else if (bottom > box.scrollTop + box.clientHeight) {
    box.scrollTop = bottom - box.clientHeight;
  }
}

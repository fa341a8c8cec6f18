import * as React from 'react';

import type { Problem } from '../api/types';
import { Button } from './bits';
import { h } from './h';
import { useApp } from './hooks';

/** What a labelled field gets from its frame. */
export interface FieldProps {
  readonly id: string;
  readonly 'aria-invalid': boolean;
  readonly 'aria-describedby': string | undefined;
}

/** A field with its label, and what is wrong with it under it. */
export function Field(props: {
  label: string;
  fault?: string;
  children: (field: FieldProps) => React.ReactNode;
}): JSX.Element {
  const id = React.useId();
  const wrong = props.fault !== undefined;
  return (
    <div className="modelyard-Field">
      <label htmlFor={id}>{props.label}</label>
      {props.children({
        id,
        'aria-invalid': wrong,
        'aria-describedby': wrong ? `${id}-fault` : undefined
      })}
      {wrong && (
        <p id={`${id}-fault`} role="alert" className="modelyard-Fault">
          {props.fault}
        </p>
      )}
    </div>
  );
}

/** Why something was refused, and what to do next; for dialogs, out of which nothing else can be opened. */
export function Refused(props: { problem: Problem; retry?: () => void }): JSX.Element {
  const { trans } = useApp();
  const { problem, retry } = props;
  return (
    <div role="alert" className="modelyard-Fault">
      <p>
        <span aria-hidden="true">✕ </span>
        {problem.plugin && <strong>{problem.plugin}: </strong>}
        {problem.message}
      </p>
      {problem.hint && <p>{problem.hint}</p>}
      {retry && <Button onClick={retry}>{trans.__('Try again')}</Button>}
    </div>
  );
}

/** A table that scrolls sideways by mouse and by keyboard; `end` shows its right end first. */
export function Table(props: {
  label: string;
  head: readonly React.ReactNode[];
  className?: string;
  end?: unknown;
  children: React.ReactNode;
}): JSX.Element {
  const { label, head, className = '', end } = props;
  const frame = React.useRef<HTMLDivElement>(null);
  React.useLayoutEffect(() => {
    if (end !== undefined && frame.current) {
      frame.current.scrollLeft = frame.current.scrollWidth;
    }
  }, [end]);
  return (
    <div ref={frame} className="modelyard-Scroll" tabIndex={0} role="region" aria-label={label}>
      <table className={`modelyard-Table ${className}`}>
        <caption>{label}</caption>
        <thead>
          <tr>
            {head.map((cell, place) => (
              <th key={place} scope="col">
                {cell}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{props.children}</tbody>
      </table>
    </div>
  );
}

/** A row of a table: what it is about, and its cells. */
export function Row(props: {
  about: React.ReactNode;
  cells: readonly React.ReactNode[];
  className?: string;
}): JSX.Element {
  return (
    <tr className={props.className}>
      <th scope="row">{props.about}</th>
      {props.cells.map((cell, place) => (
        <td key={place}>{cell}</td>
      ))}
    </tr>
  );
}

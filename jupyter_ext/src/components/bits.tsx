import * as React from 'react';

import { absolute, ago, agoShort } from '../model/format';
import { h } from './h';
import { useApp, useClock } from './hooks';

type ButtonProps = React.ButtonHTMLAttributes<HTMLButtonElement> & { main?: boolean };

/** A button; `main` is the one that is probably wanted. */
export const Button = React.forwardRef<HTMLButtonElement, ButtonProps>(function Button(props, ref) {
  const { main, className, ...rest } = props;
  const names = ['modelyard-Button', main ? 'modelyard-mod-main' : '', className ?? ''];
  return <button type="button" ref={ref} className={names.filter(Boolean).join(' ')} {...rest} />;
});

/** A short word in a frame, such as an alias. */
export function Chip(props: { children: React.ReactNode; title?: string; strong?: boolean }): JSX.Element {
  return (
    <span className={`modelyard-Chip${props.strong ? ' modelyard-mod-strong' : ''}`} title={props.title}>
      {props.children}
    </span>
  );
}

export type LightKind = 'ok' | 'warning' | 'failed' | 'unknown' | 'running';

const MARKS: Record<LightKind, string> = { ok: '✓', warning: '!', failed: '✕', unknown: '?', running: '●' };

/** A mark with a word: never a colour alone. `quiet` leaves the word to screen readers. */
export function Light(props: { kind: LightKind; word: string; quiet?: boolean }): JSX.Element {
  return (
    <span
      className={`modelyard-Light modelyard-mod-${props.kind}`}
      title={props.quiet ? props.word : undefined}
    >
      <span aria-hidden="true" className="modelyard-Light-mark">
        {MARKS[props.kind]}
      </span>
      <span className={props.quiet ? 'modelyard-Hidden' : 'modelyard-Light-word'}>{props.word}</span>
    </span>
  );
}

/** How a run is. */
export function RunStatus(props: { status: string; quiet?: boolean }): JSX.Element {
  const { trans } = useApp();
  const kinds: Record<string, [LightKind, string]> = {
    running: ['running', trans.__('running')],
    finished: ['ok', trans.__('finished')],
    failed: ['failed', trans.__('failed')],
    killed: ['warning', trans.__('killed')]
  };
  const [kind, word] = kinds[props.status] ?? ['unknown', props.status];
  return <Light kind={kind} word={word} quiet={props.quiet} />;
}

/** Code with a button that copies it. */
export function Copyable(props: { code: string; insert?: boolean }): JSX.Element {
  const { trans, insertCode } = useApp();
  const [copied, setCopied] = React.useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(props.code);
    setCopied(true);
    window.setTimeout(() => setCopied(false), 2000);
  };
  return (
    <div className="modelyard-Copyable">
      <pre tabIndex={0}>{props.code}</pre>
      <Button onClick={copy} aria-label={trans.__('Copy the code')}>
        {copied ? trans.__('Copied') : trans.__('Copy')}
      </Button>
      {props.insert && <Button onClick={() => insertCode(props.code)}>{trans.__('Insert into cell')}</Button>}
      <span role="status" className="modelyard-Hidden">
        {copied ? trans.__('Copied') : ''}
      </span>
    </div>
  );
}

/** A moment, as "2 min ago", or "2 min" where there is little room; its title is the whole truth. */
export function Time(props: { at: string | number; short?: boolean }): JSX.Element {
  const { trans } = useApp();
  useClock();
  return (
    <time dateTime={new Date(props.at).toISOString()} title={absolute(props.at)}>
      {props.short ? agoShort(props.at, trans) : ago(props.at, trans)}
    </time>
  );
}

/** A tiny curve. Gaps stay gaps; a threshold is a broken line. */
export function Sparkline(props: {
  values: readonly (number | null)[];
  label: string;
  width?: number;
  height?: number;
  threshold?: number;
}): JSX.Element {
  const { values, width = 48, height = 16, threshold } = props;
  const known = values.filter((value): value is number => value !== null);
  const all = threshold === undefined ? known : [...known, threshold];
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const x = (index: number) => 1 + (index * (width - 2)) / Math.max(1, values.length - 1);
  const y = (value: number) => height - 2 - ((value - low) * (height - 4)) / (high - low || 1);
  const parts: string[] = [];
  values.forEach((value, index) => {
    if (value !== null) {
      const begins = index === 0 || values[index - 1] === null;
      parts.push(`${begins ? 'M' : 'L'}${x(index).toFixed(1)} ${y(value).toFixed(1)}`);
    }
  });
  return (
    <svg className="modelyard-Sparkline" width={width} height={height} role="img" aria-label={props.label}>
      <title>{props.label}</title>
      {threshold !== undefined && (
        <line className="modelyard-Sparkline-limit" x1={0} x2={width} y1={y(threshold)} y2={y(threshold)} />
      )}
      {known.length > 0 && <path d={parts.join('')} />}
      {known.length === 1 && <circle cx={x(values.indexOf(known[0]))} cy={y(known[0])} r={1.5} />}
    </svg>
  );
}

/** Names and values in two columns. */
export function Facts(props: { rows: readonly (readonly [string, React.ReactNode])[] }): JSX.Element {
  return (
    <dl className="modelyard-Facts">
      {props.rows.map(([name, value]) => (
        <React.Fragment key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </React.Fragment>
      ))}
    </dl>
  );
}

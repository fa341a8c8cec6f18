import * as React from 'react';

import { allSteps, extent, Line, nearest, ticks, valueAt } from '../model/chart';
import { number } from '../model/format';
import { h } from './h';
import { useApp } from './hooks';

const [LEFT, BOTTOM, TOP, RIGHT] = [56, 28, 10, 10];

/** Metrics over their steps. Lines differ in their dashes too; arrows walk along the steps. */
export function LineChart(props: { title: string; lines: readonly Line[]; small?: boolean }): JSX.Element {
  const { trans } = useApp();
  const [width, height] = props.small ? [400, 180] : [640, 260];
  const { lines, title } = props;
  const [at, setAt] = React.useState<number | null>(null);
  const found = extent(lines);
  if (!found) {
    return <p className="modelyard-Hint">{trans.__('No run has more than a missing value of %1.', title)}</p>;
  }
  const { steps, values } = found;
  const x = (step: number) => LEFT + ((step - steps[0]) * (width - LEFT - RIGHT)) / (steps[1] - steps[0]);
  const y = (value: number) =>
    height - BOTTOM - ((value - values[0]) * (height - BOTTOM - TOP)) / (values[1] - values[0]);
  const known = allSteps(lines);

  const move = (event: React.MouseEvent<SVGSVGElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    const place = ((event.clientX - box.left) * width) / box.width;
    const step = steps[0] + ((place - LEFT) * (steps[1] - steps[0])) / (width - LEFT - RIGHT);
    setAt(nearest(known, step));
  };
  const walk = (event: React.KeyboardEvent) => {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (way) {
      const index = at === null ? (way > 0 ? -1 : known.length) : known.indexOf(at);
      setAt(known[Math.min(known.length - 1, Math.max(0, index + way))]);
      event.preventDefault();
    }
  };
  return (
    <figure className="modelyard-Chart">
      <figcaption>{title}</figcaption>
      <svg
        viewBox={`0 0 ${width} ${height}`}
        role="img"
        aria-label={trans.__('%1 over its steps; arrow keys read the values', title)}
        tabIndex={0}
        onMouseMove={move}
        onMouseLeave={() => setAt(null)}
        onKeyDown={walk}
      >
        {ticks(values[0], values[1]).map(value => (
          <g key={value}>
            <line className="modelyard-Chart-grid" x1={LEFT} x2={width - RIGHT} y1={y(value)} y2={y(value)} />
            <text x={LEFT - 6} y={y(value) + 4} textAnchor="end">
              {number(value)}
            </text>
          </g>
        ))}
        {ticks(steps[0], steps[1], 8)
          .filter(Number.isInteger)
          .map(step => (
            <text key={step} x={x(step)} y={height - 8} textAnchor="middle">
              {step}
            </text>
          ))}
        {lines.map((line, index) => (
          <g key={index} className={`modelyard-Chart-line modelyard-mod-line${index % 8}`}>
            <path d={pathOf(line, x, y)} />
            {line.values.length === 1 && line.values[0] !== null && (
              <circle cx={x(line.steps[0])} cy={y(line.values[0])} r={3} />
            )}
          </g>
        ))}
        {at !== null && (
          <line className="modelyard-Chart-at" x1={x(at)} x2={x(at)} y1={TOP} y2={height - BOTTOM} />
        )}
      </svg>
      <ul className="modelyard-Chart-legend" aria-live="polite">
        {at !== null && <li>{trans.__('step %1', at)}</li>}
        {lines.map((line, index) => (
          <li key={index}>
            <svg
              width={28}
              height={8}
              aria-hidden="true"
              className={`modelyard-Chart-line modelyard-mod-line${index % 8}`}
            >
              <path d="M0 4L28 4" />
            </svg>{' '}
            {line.name} <strong>{number(at === null ? lastOf(line) : valueAt(line, at))}</strong>
          </li>
        ))}
      </ul>
    </figure>
  );
}

function lastOf(line: Line): number | null {
  return [...line.values].reverse().find(value => value !== null) ?? null;
}

function pathOf(line: Line, x: (step: number) => number, y: (value: number) => number): string {
  let path = '';
  line.values.forEach((value, index) => {
    if (value !== null) {
      const begins = index === 0 || line.values[index - 1] === null;
      path += `${begins ? 'M' : 'L'}${x(line.steps[index]).toFixed(1)} ${y(value).toFixed(1)}`;
    }
  });
  return path;
}

import { ISignal } from '@lumino/signaling';
import { createContext, useContext, useEffect, useReducer } from 'react';

import { PanelContext } from '../sections';

/** What every component may need of JupyterLab. */
export const Surroundings = createContext<PanelContext | null>(null);

/** The panel's context; every section and tab is drawn inside one. */
export function useApp(): PanelContext {
  const found = useContext(Surroundings);
  if (!found) {
    throw new Error('This component is drawn outside of the panel.');
  }
  return found;
}

/** Draw again when a signal is emitted. */
export function useSignal<S, A>(signal: ISignal<S, A>): void {
  const [, again] = useReducer((count: number) => count + 1, 0);
  useEffect(() => {
    signal.connect(again);
    return () => {
      signal.disconnect(again);
    };
  }, [signal]);
}

const clocks = new Set<() => void>();
let ticking: number | undefined;

/** Draw again every half minute, for words like "2 min ago"; one timer for all. */
export function useClock(): void {
  const [, again] = useReducer((count: number) => count + 1, 0);
  useEffect(() => {
    clocks.add(again);
    ticking ??= window.setInterval(() => !document.hidden && clocks.forEach(one => one()), 30_000);
    return () => {
      clocks.delete(again);
      if (!clocks.size) {
        window.clearInterval(ticking);
        ticking = undefined;
      }
    };
  }, []);
}

import { TranslationBundle } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';
import { ReactElement } from 'react';

import { YardModel } from './model/yard';
import { TabArgs } from './widgets/tabs';

/** What a notification offers to do. */
export interface Offer {
  label: string;
  run: () => void;
}

/** What sections and tabs need of JupyterLab. */
export interface PanelContext {
  readonly commands: CommandRegistry;
  readonly trans: TranslationBundle;
  /** Put code into the active cell, at its cursor. It is never run. */
  insertCode(code: string): void;
  /** Tell the user, in a corner of the window. */
  notify(message: string, kind?: 'success' | 'info' | 'warning' | 'error', offers?: Offer[]): void;
  /** Open a tab in the main area, or bring it to the front if it is there. */
  openTab(kind: string, args: TabArgs): void;
}

/** One section of the panel. */
export interface SectionPart {
  /** Short and stable: settings hide sections by it. A name of the model's own sections is loaded with it. */
  name: string;
  title: string;
  /** Smaller is higher; ours are 100, 200, ... */
  rank: number;
  /** Whether it is closed until the user opens it for the first time. */
  collapsed?: boolean;
  render(model: YardModel, context: PanelContext): ReactElement;
}

/** The sections of the panel; other extensions may add theirs. */
export class Sections {
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** In their order. */
  get all(): readonly SectionPart[] {
    return [...this._parts.values()].sort((a, b) => a.rank - b.rank);
  }

  /** Add a section; it goes when what is returned is disposed. */
  add(part: SectionPart): IDisposable {
    if (this._parts.has(part.name)) {
      throw new Error(`The panel has a section '${part.name}' already: give yours another name.`);
    }
    this._parts.set(part.name, part);
    this._changed.emit();
    let gone = false;
    return {
      get isDisposed() {
        return gone;
      },
      dispose: () => {
        gone = true;
        this._parts.delete(part.name);
        this._changed.emit();
      }
    };
  }

  private readonly _parts = new Map<string, SectionPart>();
  private readonly _changed = new Signal<this, void>(this);
}

import { ILayoutRestorer, JupyterFrontEnd } from '@jupyterlab/application';
import { MainAreaWidget, ReactWidget, WidgetTracker } from '@jupyterlab/apputils';
import { SplitPanel, Widget } from '@lumino/widgets';
import * as React from 'react';

import { CommandIDs } from '../commandids';
import { h } from '../components/h';
import { Surroundings } from '../components/hooks';
import { yardIcon } from '../icons';
import { PanelContext } from '../sections';

/** What a tab shows; kept by the browser, so that the tab comes back after a reload. */
export type TabArgs = { [name: string]: string | string[] };

interface Kind {
  make: (args: TabArgs) => React.ReactElement;
  label: (args: TabArgs) => string;
}

const kinds = new Map<string, Kind>();

/** Say how tabs of a kind are drawn and called. */
export function registerTab(
  kind: string,
  make: (args: TabArgs) => React.ReactElement,
  label: (args: TabArgs) => string
): void {
  kinds.set(kind, { make, label });
}

class TabContent extends ReactWidget {
  constructor(
    readonly kind: string,
    readonly args: TabArgs,
    private readonly _context: PanelContext
  ) {
    super();
    this.addClass('modelyard-Tab');
  }

  protected render(): JSX.Element {
    return (
      <Surroundings.Provider value={this._context}>
        {kinds.get(this.kind)!.make(this.args)}
      </Surroundings.Provider>
    );
  }
}

/** The tabs in the main area. Two of the same kind and arguments are one. */
export class Tabs {
  constructor(
    private readonly _app: JupyterFrontEnd,
    private readonly _context: PanelContext,
    /** `main` in JupyterLab; Notebook 7 has one document there and shows ours below it. */
    private readonly _area: 'main' | 'down',
    restorer: ILayoutRestorer | null
  ) {
    if (restorer) {
      void restorer.restore(this._tracker, {
        command: CommandIDs.openTab,
        args: tab => ({ kind: tab.content.kind, args: tab.content.args }),
        name: tab => tab.id
      });
    }
  }

  open(kind: string, args: TabArgs): MainAreaWidget | null {
    const id = `modelyard-${kind}-${encodeURIComponent(JSON.stringify(args))}`;
    const found = kinds.get(kind);
    if (!found) {
      return null; // kept by another version of ours
    }
    let tab = this._tracker.find(one => one.id === id);
    if (!tab) {
      tab = new MainAreaWidget({ content: new TabContent(kind, args, this._context) });
      tab.id = id;
      tab.title.label = found.label(args);
      tab.title.icon = yardIcon;
      tab.title.closable = true;
      void this._tracker.add(tab);
      this._app.shell.add(tab, this._area);
      if (this._area === 'down') {
        makeRoom(tab);
      }
    }
    this._app.shell.activateById(id);
    return tab;
  }

  private readonly _tracker = new WidgetTracker<MainAreaWidget<TabContent>>({ namespace: 'modelyard-tabs' });
}

/** Notebook 7 opens the area below the notebook as low as it can. */
function makeRoom(tab: Widget): void {
  for (let parent = tab.parent; parent; parent = parent.parent) {
    if (parent instanceof SplitPanel && parent.orientation === 'vertical') {
      parent.setRelativeSizes([3, 2]);
    }
  }
}

import { CodeCell } from '@jupyterlab/cells';
import { IDocumentManager } from '@jupyterlab/docmanager';
import { NotebookPanel } from '@jupyterlab/notebook';
import { Widget } from '@lumino/widgets';

import { Notebooks } from './components/source';

/** Runs that a cell's metadata name at the most. */
const MOST = 5;

/** A cell of a notebook file, as far as it matters here. */
interface FileCell {
  cell_type: string;
  id?: string;
  source: string | string[];
}

/** Finds notebooks and cells. */
export class LabNotebooks implements Notebooks {
  constructor(private readonly _documents: IDocumentManager) {}

  /**
   * The contents path of a notebook that a run names relative to its project. A server that was started inside of
   * the project sees less of the path.
   */
  async find(folder: string, notebook: string): Promise<string | null> {
    const parts = [...(folder === '.' ? [] : folder.split('/')), ...notebook.split('/')];
    const first = folder === '.' ? parts.length : 1;
    for (let start = 0; start < first; start++) {
      const path = parts.slice(start).join('/');
      const there = await this._documents.services.contents.get(path, { content: false }).catch(() => null);
      if (there) {
        return path;
      }
    }
    return null;
  }

  async sources(path: string): Promise<{ id: string; source: string }[]> {
    const open = this._documents.findWidget(path);
    if (open?.content && open instanceof NotebookPanel && open.model) {
      return open.model.sharedModel.cells
        .filter(cell => cell.cell_type === 'code')
        .map(cell => ({ id: cell.getId(), source: cell.getSource() }));
    }
    const file = await this._documents.services.contents.get(path, { content: true });
    const cells = (file.content as { cells?: FileCell[] }).cells ?? [];
    return cells
      .filter(cell => cell.cell_type === 'code')
      .map(cell => ({
        id: cell.id ?? '',
        source: Array.isArray(cell.source) ? cell.source.join('') : cell.source
      }));
  }

  async go(path: string, cell: string): Promise<boolean> {
    const panel = this._documents.openOrReveal(path);
    if (!(panel instanceof NotebookPanel)) {
      return panel !== undefined; // Notebook 7 opens it in another browser tab
    }
    await panel.context.ready;
    await panel.revealed;
    const notebook = panel.content;
    const index = notebook.widgets.findIndex(one => one.model.id === cell);
    if (index < 0) {
      return false;
    }
    notebook.deselectAll();
    notebook.activeCellIndex = index;
    await notebook.scrollToItem(index, 'center');
    notebook.node.focus();
    return true;
  }
}

/** The code cell whose output a widget is part of. */
export function cellOf(widget: Widget): CodeCell | null {
  for (let parent = widget.parent; parent; parent = parent.parent) {
    if (parent instanceof CodeCell) {
      return parent;
    }
  }
  return null;
}

/**
 * Write into a cell's metadata which runs it made; once per run. A cell that was not run in this page is left alone,
 * so that opening a notebook does not change it.
 */
export function linkRun(cell: CodeCell, run: string): boolean {
  const wasRunHere = !!(cell.outputArea as { future?: unknown }).future;
  const known = (cell.model.getMetadata('modelyard') ?? {}) as { runs?: string[] };
  const runs = known.runs ?? [];
  if (!wasRunHere || runs.includes(run)) {
    return false;
  }
  cell.model.setMetadata('modelyard', { ...known, runs: [...runs, run].slice(-MOST) });
  return true;
}

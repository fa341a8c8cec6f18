/** Every action of ours. Each takes its arguments as its `describedBy` says. */
export namespace CommandIDs {
  export const showPanel = 'modelyard:show-panel';
  export const refresh = 'modelyard:refresh';
  export const chooseProject = 'modelyard:choose-project';
  export const doctor = 'modelyard:doctor';
  export const openTab = 'modelyard:open-tab';
  export const openRun = 'modelyard:open-run';
  export const compareRuns = 'modelyard:compare-runs';
  export const insertRunCode = 'modelyard:insert-run-code';
  export const copyRunId = 'modelyard:copy-run-id';
  export const starRun = 'modelyard:star-run';
  export const registerRun = 'modelyard:register-run';
  export const goToCell = 'modelyard:go-to-cell';
}

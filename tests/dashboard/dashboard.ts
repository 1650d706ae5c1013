// The type of the dashboard, from Grafana's schema. tests/chart/test_monitoring.py appends the dashboard to this file.

import type { Dashboard, FieldConfig, FieldConfigSource, Panel, RowPanel } from "@grafana/schema";
import type { Options as StatOptions } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type { FieldConfig as GraphFieldConfig, Options as TimeSeriesOptions } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// JSON has the values of the enumerations.
type Plain<T> = T extends string ? `${T}`
  : T extends (infer Item)[] ? Plain<Item>[]
  : T extends object ? { [Key in keyof T]: Plain<T[Key]> }
  : T;

// In Grafana's type of a panel, the options and the settings of its fields are objects of any form.
type Visualization<Type extends string, Options, Custom> = Omit<Panel, "type" | "options" | "fieldConfig"> & {
  type: Type;
  options: Options;
  fieldConfig: Omit<FieldConfigSource, "defaults"> & { defaults: Omit<FieldConfig, "custom"> & { custom?: Custom } };
};

type Visualizations = Visualization<"stat", StatOptions, never> | Visualization<"timeseries", TimeSeriesOptions, GraphFieldConfig>;

type GrafanaDashboard = Plain<Omit<Dashboard, "panels"> & { panels: (RowPanel | Visualizations)[] }>;

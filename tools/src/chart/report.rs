//! Everything, for programs.

use serde_json::{Map, Value, json};

use super::samples::{Better, Panel, Sheet};
use super::stats::{Ratio, Spread};

pub(super) fn json(sheet: &Sheet) -> Value {
    let machine: Map<String, Value> =
        sheet.machine.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let panels: Map<String, Value> =
        sheet.panels.iter().map(|panel| (panel.name.clone(), of_panel(panel))).collect();
    json!({ "title": sheet.title, "machine": machine, "panels": panels })
}

fn of_panel(panel: &Panel) -> Value {
    let better = match panel.better {
        Better::Higher => "higher",
        Better::Lower | Better::Spread => "lower",
    };
    let mut ratios = Map::new();
    let mut cases = Map::new();
    for case in &panel.cases {
        let of_case: Map<String, Value> = panel
            .ratios()
            .into_iter()
            .filter_map(|(first, second)| {
                let ratio = Ratio::of(case.values(first), case.values(second))?;
                Some((format!("{first}/{second}"), json!(ratio)))
            })
            .collect();
        if !of_case.is_empty() {
            ratios.insert(case.name.clone(), Value::Object(of_case));
        }
        let series: Map<String, Value> = case
            .series
            .iter()
            .map(|series| {
                let told = json!({ "spread": Spread::of(&series.values), "values": series.values });
                (series.name.clone(), told)
            })
            .collect();
        cases.insert(case.name.clone(), Value::Object(series));
    }
    json!({ "unit": panel.unit, "better": better, "ratios": ratios, "cases": cases })
}

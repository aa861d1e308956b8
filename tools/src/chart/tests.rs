//! Tests of the chart: what its text means, and what it tells of it.

use super::{Better, Sheet, Spread};

const TEXT: &str = "\
title\tBulk
machine\tcores\t2
panel\tthroughput\tGbit/s\thigher\tkernel
compare\tthroughput\tduplex\tsimplex
sample\tthroughput\tdownload, 1\tkernel\t30
sample\tthroughput\tdownload, 1\tsimplex\t24
sample\tthroughput\tdownload, 1\tduplex\t12
sample\tthroughput\tdownload, 1\tkernel\t10
sample\tthroughput\tdownload, 1\tsimplex\t9
sample\tthroughput\tdownload, 1\tduplex\t9
sample\tthroughput\tdownload, 1\tkernel\t20
sample\tthroughput\tdownload, 1\tsimplex\t20
sample\tthroughput\tdownload, 1\tduplex\t10
machine\tcores\t4
";

fn sheet() -> Sheet {
    Sheet::parse(TEXT).unwrap()
}

#[test]
fn a_text_becomes_a_sheet() {
    let sheet = sheet();
    assert_eq!(sheet.title, "Bulk");
    assert_eq!(sheet.machine, [("cores".to_owned(), "4".to_owned())], "the later holds");
    let [panel] = &sheet.panels[..] else { panic!("one panel: {:?}", sheet.panels) };
    assert_eq!((panel.unit.as_str(), panel.better, panel.log), ("Gbit/s", Better::Higher, false));
    assert_eq!(panel.series(), ["kernel", "simplex", "duplex"]);
    assert_eq!(panel.cases[0].values("kernel"), [30.0, 10.0, 20.0]);
    assert_eq!(panel.cases[0].values("nobody"), [0.0; 0]);
    assert_eq!(
        panel.ratios(),
        [("simplex", "kernel"), ("duplex", "kernel"), ("duplex", "simplex")]
    );
}

#[test]
fn ratios_are_of_medians_and_their_quartiles_of_rounds() {
    // Medians 20, 20, 10. Rounds of simplex/kernel: 0.8, 0.9, 1; duplex/simplex: 0.5, 1, 0.5.
    let table = sheet().table();
    let row = table.lines().find(|line| line.starts_with("download, 1")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        cells[2..],
        ["1.00", "(0.80", "1.00)", "0.50", "(0.40", "0.90)", "0.50", "(0.50", "1.00)"],
        "{table}"
    );
    let ratio = &sheet().json()["panels"]["throughput"]["ratios"]["download, 1"]["simplex/kernel"];
    assert_eq!(ratio["of_medians"], 1.0);
    assert_eq!(ratio["quartiles"], serde_json::json!([0.8, 1.0]));
}

#[test]
fn ratios_come_before_medians() {
    let table = sheet().table();
    let at = |what: &str| table.find(what).unwrap_or_else(|| panic!("no '{what}' in {table}"));
    assert!(at("throughput: ratios, more is better") < at("throughput: Gbit/s, median"));
}

#[test]
fn a_document_has_the_same_tables() {
    let markdown = sheet().markdown();
    assert!(markdown.starts_with("## Bulk\n\nthroughput: ratios"), "{markdown}");
    let row = "| download, 1 | 1.00 (0.80 1.00) | 0.50 (0.40 0.90) | 0.50 (0.50 1.00) |";
    assert!(markdown.contains(row), "{markdown}");
    assert!(
        markdown.contains("| | kernel | simplex | duplex |\n|---|---|---|---|\n"),
        "{markdown}"
    );
}

#[test]
fn series_without_a_partner_have_no_ratio() {
    let text = "panel\tp\tms\tlower\tkernel\nsample\tp\tc\tduplex\t1\nsample\tp\td\tkernel\t0\n\
                sample\tp\td\tduplex\t1\n";
    let sheet = Sheet::parse(text).unwrap();
    assert_eq!(sheet.json()["panels"]["p"]["ratios"], serde_json::json!({}));
    assert!(sheet.svg().is_ok());
}

#[test]
fn ranks_are_of_values_that_were_measured() {
    let fifty: Vec<f64> = (1..=50).rev().map(f64::from).collect();
    let spread = Spread { min: 1.0, q1: 13.0, median: 25.0, q3: 38.0, p99: 50.0, max: 50.0 };
    assert_eq!(Spread::of(&fifty), Some(spread));
    assert_eq!(Spread::of(&[]), None);
    assert_eq!(Spread::of(&[7.0]).map(|s| (s.min, s.median, s.max)), Some((7.0, 7.0, 7.0)));
}

#[test]
fn what_is_no_sheet_is_refused_with_its_line() {
    let why = |text: &str| Sheet::parse(text).unwrap_err().to_string();
    let panel = "panel\tp\tms\tlower\t-\n";
    assert_eq!(why("nonsense"), "line 1: 'nonsense' with 1 words");
    assert_eq!(why("\nsample\tp\tc\ts\t1"), "line 2: no panel 'p'");
    assert_eq!(why("panel\tp\tms\tup\t-"), "line 1: 'up' is not higher, lower or spread");
    assert_eq!(why(&format!("{panel}{panel}")), "line 2: panel 'p' twice");
    for number in ["", "x", "nan", "inf", "1,5"] {
        let said = why(&format!("{panel}sample\tp\tc\ts\t{number}"));
        assert_eq!(said, format!("line 2: '{number}' is not a number"));
    }
}

#[test]
fn a_picture_names_what_it_shows() {
    let svg = sheet().svg().unwrap();
    for text in [
        "Bulk",
        "throughput (more is better)",
        "Gbit/s",
        "kernel",
        "duplex",
        "download",
        "0.50",
        "cores 4",
    ] {
        assert!(svg.contains(text), "no '{text}' in {svg}");
    }
    assert_eq!(Sheet::default().svg(), Err("nothing to draw: no samples".to_owned()));
}

#[test]
fn logarithmic_axes_and_distributions_are_drawn() {
    let mut text = "panel\tgap\tms\tspread\t-\tlog\n".to_owned();
    for value in [0.0, 3.5, 47.0, 285.0] {
        text += &format!("sample\tgap\tkill, download\tduplex\t{value}\n");
    }
    let sheet = Sheet::parse(&text).unwrap();
    assert!(sheet.svg().unwrap().contains("p50 3.50"), "nearest rank of four");
    let row = sheet.table().lines().last().unwrap().to_owned();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["kill,", "download", "4", "3.50", "285", "285"]);
}

#[test]
fn one_value_on_a_logarithmic_axis() {
    let text = "panel\tp\tms\tlower\t-\tlog\nsample\tp\tc\ts\t1000\n";
    assert!(Sheet::parse(text).unwrap().svg().is_ok());
}

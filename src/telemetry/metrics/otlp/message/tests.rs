use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::family::Family as Labelled;
use prometheus_client::metrics::gauge::Gauge as Counted;
use prometheus_client::registry::Registry;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn exported(process: &str, store: &str) -> Vec<Vec<Metric>> {
    let exposition = Exposition {
        process: process.to_owned(),
        store: store.to_owned(),
    };
    let source = Source::of(&[]);
    let bodies = requests(&source, &exposition, Timestamp(1_000), Timestamp(2_000));
    let metrics = |body: Bytes| {
        let request = ExportMetricsServiceRequest::decode(body).unwrap();
        let of_process = request.resource_metrics.into_iter();
        let scopes = of_process.flat_map(|one| one.scope_metrics);
        scopes.flat_map(|one| one.metrics).collect()
    };
    bodies.into_iter().map(metrics).collect()
}

fn texts(attributes: &[KeyValue]) -> Vec<(&str, &str)> {
    let text = |one: &'_ KeyValue| match one.value.as_ref()?.value.as_ref()? {
        Value::StringValue(_) => Some(()),
        _ => None,
    };
    assert!(attributes.iter().all(|one| text(one).is_some()));
    let pair = attributes.iter().map(|one| match &one.value {
        Some(value) => match &value.value {
            Some(Value::StringValue(text)) => (one.key.as_str(), text.as_str()),
            _ => (one.key.as_str(), ""),
        },
        None => (one.key.as_str(), ""),
    });
    pair.collect()
}

#[test]
fn each_kind_of_line_becomes_a_point() {
    let process = format!(
        "# HELP a Events stored\n# TYPE a counter\na_total{{tenant=\"t\",source=\"s\"}} 3\na_total{{tenant=\"t\",source=\"o\"}} 4\n\
         # HELP b_bytes Memory\n# TYPE b_bytes gauge\nb_bytes 1.5\n\
         # HELP i The version\n# TYPE i info\ni_info{{version=\"1\"}} 1\n\
         # HELP none Nothing\n# TYPE none counter\n\
         # HELP d_seconds Durations\n# TYPE d_seconds histogram\n\
         d_seconds_sum{{class=\"gone\"}} 0.25\nd_seconds_count{{class=\"gone\"}} 5\n\
         d_seconds_bucket{{le=\"0.001\",class=\"gone\"}} 2\n\
         d_seconds_bucket{{le=\"1.0\",class=\"gone\"}} 4 # {{trace_id=\"{TRACE}\"}} 0.125 1.5\n\
         d_seconds_bucket{{le=\"+Inf\",class=\"gone\"}} 5\n\
         d_seconds_sum 0.0\nd_seconds_count 0\nd_seconds_bucket{{le=\"0.001\"}} 0\n\
         d_seconds_bucket{{le=\"1.0\"}} 0\nd_seconds_bucket{{le=\"+Inf\"}} 0\n"
    );
    let store = "# HELP s Deliveries\n# TYPE s counter\ns_total 7\n";
    let [metrics] = &exported(&process, store)[..] else {
        panic!("one call")
    };
    let names: Vec<_> = metrics
        .iter()
        .map(|one| (&*one.name, &*one.description, &*one.unit))
        .collect();
    assert_eq!(
        names,
        [
            ("a_total", "Events stored", ""),
            ("b_bytes", "Memory", "By"),
            ("i_info", "The version", ""),
            ("d_seconds", "Durations", "s"),
            ("s_total", "Deliveries", ""),
        ]
    );
    let data: Vec<_> = metrics
        .iter()
        .map(|one| one.data.as_ref().unwrap())
        .collect();
    let cumulative = i32::from(AggregationTemporality::Cumulative);
    let [
        Data::Sum(counter),
        Data::Gauge(gauge),
        Data::Sum(info),
        Data::Histogram(histogram),
        Data::Sum(stored),
    ] = data[..]
    else {
        panic!("{data:?}")
    };
    assert!(counter.is_monotonic && stored.is_monotonic && !info.is_monotonic);
    assert_eq!(
        (
            counter.aggregation_temporality,
            histogram.aggregation_temporality
        ),
        (cumulative, cumulative)
    );
    let point = &counter.data_points[1];
    assert_eq!(texts(&point.attributes), [("tenant", "t"), ("source", "o")]);
    assert_eq!(point.value, Some(number_data_point::Value::AsInt(4)));
    // Of what outlives the process nobody knows when it began.
    let starts = [point, &gauge.data_points[0], &stored.data_points[0]];
    assert_eq!(
        starts.map(|one| one.start_time_unix_nano),
        [1_000_000, 0, 0]
    );
    assert!(starts.iter().all(|one| one.time_unix_nano == 2_000_000));
    assert_eq!(
        gauge.data_points[0].value,
        Some(number_data_point::Value::AsDouble(1.5))
    );
    let [own, empty] = &histogram.data_points[..] else {
        panic!("{histogram:?}")
    };
    assert_eq!(texts(&own.attributes), [("class", "gone")]);
    assert_eq!(
        (own.count, own.sum, &own.bucket_counts[..]),
        (5, Some(0.25), &[2, 2, 1][..])
    );
    assert_eq!(own.explicit_bounds, [0.001, 1.0]);
    assert_eq!((own.start_time_unix_nano, empty.count), (1_000_000, 0));
    let [exemplar] = &own.exemplars[..] else {
        panic!("{own:?}")
    };
    let trace = u128::from_str_radix(TRACE, 16).unwrap().to_be_bytes();
    assert_eq!(exemplar.trace_id, trace);
    assert_eq!(exemplar.value, Some(exemplar::Value::AsDouble(0.125)));
    assert_eq!(
        exemplar.time_unix_nano,
        u64::try_from(Duration::from_millis(1_500).as_nanos()).unwrap()
    );
    assert!(empty.exemplars.is_empty());
}

#[test]
fn labels_are_read_as_they_were_written() {
    let odd = "a \"b\" \\ c\nd {e=\"f\"} # {g}, ä";
    let family = Labelled::<Vec<(String, String)>, Counted>::default();
    let labels = vec![
        ("one".to_owned(), odd.to_owned()),
        ("two".to_owned(), String::new()),
    ];
    family.get_or_create(&labels).set(-7);
    let (mut registry, mut text) = (Registry::default(), String::new());
    registry.register("odd", "Odd", family);
    encode_registry(&mut text, &registry).unwrap();
    let metrics = exported(&text, "").concat();
    let Some(Data::Gauge(gauge)) = &metrics[0].data else {
        panic!("{metrics:?}")
    };
    let [point] = &gauge.data_points[..] else {
        panic!("{gauge:?}")
    };
    assert_eq!(texts(&point.attributes), [("one", odd), ("two", "")]);
    assert_eq!(point.value, Some(number_data_point::Value::AsInt(-7)));
}

#[test]
fn what_is_much_goes_out_in_several_calls_and_nothing_is_missing() {
    let mut text =
        "# HELP first First\n# TYPE first gauge\nfirst 1\n# HELP many Many\n# TYPE many gauge\n"
            .to_owned();
    for number in 0..2 * CALL_POINTS_MAX + 1 {
        text.push_str(&format!("many{{number=\"{number}\"}} {number}\n"));
    }
    let calls = exported(&text, "# HELP last Last\n# TYPE last gauge\nlast 1\n");
    let points = |metric: &Metric| match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        other => panic!("{other:?}"),
    };
    let counts: Vec<usize> = calls
        .iter()
        .map(|call| call.iter().map(points).sum())
        .collect();
    assert_eq!(counts, [1, CALL_POINTS_MAX, CALL_POINTS_MAX, 2]);
    let names: Vec<_> = calls.iter().flatten().map(|one| &*one.name).collect();
    assert_eq!(names, ["first", "many", "many", "many", "last"]);
}

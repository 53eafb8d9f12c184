//! Small templates, one property each: what is understood, and what is refused with which words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::error::Error;
use std::time::Duration;

use darkroom_template::{
    Condition, CorsRule, Function, KmsAlias, Names, Redrive, Route, Schedule, Stack, Statement, Template,
};
use serde_json::json;

fn names() -> Names {
    Names {
        stack: "dark".into(),
        region: "eu-central-1".into(),
        account: "123456789012".into(),
        partition: "aws".into(),
        queue_url_prefix: "http://127.0.0.1:9324".into(),
        api_url: "http://127.0.0.1:3000".into(),
        parameters: [].into(),
    }
}

fn stack(yaml: &str) -> Stack {
    Template::parse(yaml).unwrap().stack(&names()).unwrap()
}

/// The error with its causes, in one line.
fn refusal(yaml: &str) -> String {
    refusal_for(yaml, &names())
}

fn refusal_for(yaml: &str, names: &Names) -> String {
    let error =
        Template::parse(yaml).and_then(|template| template.stack(names)).expect_err("it was accepted");
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// A template with one output, beside a resource of each kind that can be referred to.
fn output_of(value: &str) -> String {
    let yaml = r#"
Resources:
  Jobs: { Type: "AWS::DynamoDB::Table", Properties: { TableName: !Sub "${AWS::StackName}-jobs" } }
  Queue: { Type: "AWS::SQS::Queue", Properties: { QueueName: jobs } }
  Images: { Type: "AWS::S3::Bucket", Properties: { BucketName: images } }
  Logs: { Type: "AWS::Logs::LogGroup", Properties: { LogGroupName: /aws/lambda/worker } }
  Role: { Type: "AWS::IAM::Role", Properties: {} }
  Key: { Type: "AWS::KMS::Key", Properties: { EnableKeyRotation: true } }
  Api: { Type: "AWS::Serverless::HttpApi", Properties: {} }
Outputs:
  Wanted: { Value: VALUE }
"#;
    stack(&yaml.replace("VALUE", value)).outputs["Wanted"].clone()
}

#[test]
fn ref_gives_what_cloudformation_documents_for_each_type() {
    assert_eq!(output_of("!Ref Jobs"), "dark-jobs");
    assert_eq!(output_of("!Ref Queue"), "http://127.0.0.1:9324/123456789012/jobs");
    assert_eq!(output_of("!Ref Images"), "images");
    assert_eq!(output_of("!Ref Logs"), "/aws/lambda/worker");
    assert_eq!(output_of("!Ref Role"), "dark-Role");
    assert_eq!(output_of("!Ref Key"), "dark-Key");
}

#[test]
fn ref_knows_the_pseudo_parameters() {
    assert_eq!(output_of("!Ref AWS::StackName"), "dark");
    assert_eq!(output_of("!Ref AWS::Region"), "eu-central-1");
    assert_eq!(output_of("!Ref AWS::AccountId"), "123456789012");
    assert_eq!(output_of("!Ref AWS::Partition"), "aws");
}

#[test]
fn get_att_gives_arns_and_the_api_endpoint() {
    assert_eq!(output_of("!GetAtt Jobs.Arn"), "arn:aws:dynamodb:eu-central-1:123456789012:table/dark-jobs");
    assert_eq!(output_of("!GetAtt Queue.Arn"), "arn:aws:sqs:eu-central-1:123456789012:jobs");
    assert_eq!(output_of("!GetAtt Images.Arn"), "arn:aws:s3:::images");
    assert_eq!(
        output_of("!GetAtt Logs.Arn"),
        "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/worker:*"
    );
    assert_eq!(output_of("!GetAtt Role.Arn"), "arn:aws:iam::123456789012:role/dark-Role");
    assert_eq!(output_of("!GetAtt Key.Arn"), "arn:aws:kms:eu-central-1:123456789012:key/dark-Key");
    assert_eq!(output_of("!GetAtt Api.ApiEndpoint"), "http://127.0.0.1:3000");
}

#[test]
fn sub_replaces_names_and_attributes_and_keeps_the_rest() {
    assert_eq!(
        output_of(r#"!Sub "a ${AWS::StackName} b ${Images.Arn}/x $ } c""#),
        "a dark b arn:aws:s3:::images/x $ } c"
    );
    assert_eq!(output_of(r#"!Sub """#), "");
}

#[test]
fn the_long_form_means_the_same() {
    assert_eq!(output_of("{ Ref: Jobs }"), "dark-jobs");
    assert_eq!(output_of(r#"{ "Fn::GetAtt": [Images, Arn] }"#), "arn:aws:s3:::images");
    assert_eq!(output_of(r#"{ "Fn::Sub": "${Jobs}!" }"#), "dark-jobs!");
}

#[test]
fn an_unknown_intrinsic_is_named_with_its_place() {
    let yaml = "Resources: {}\nOutputs: { Wanted: { Value: !ImportValue other } }";
    let refused = refusal(yaml);
    assert!(refused.starts_with("Outputs.Wanted.Value: the intrinsic function !ImportValue"), "{refused}");

    let yaml = "Resources: {}\nOutputs: { Wanted: { Value: { 'Fn::Join': ['-', [a, b]] } } }";
    let refused = refusal(yaml);
    assert!(refused.starts_with("Outputs.Wanted.Value: the intrinsic function Fn::Join"), "{refused}");
}

#[test]
fn references_that_lead_nowhere_are_named() {
    let refused =
        |value: &str| refusal(&format!("Resources: {{}}\nOutputs: {{ Wanted: {{ Value: {value} }} }}"));
    let nothing = |name: &str| format!("Outputs.Wanted.Value: there is nothing named {name} to refer to");
    assert_eq!(refused("!Ref Gone"), nothing("Gone"));
    assert_eq!(refused("!GetAtt Gone.Arn"), nothing("Gone.Arn"));
    assert_eq!(refused(r#"!Sub "${Gone}""#), nothing("Gone"));
    assert_eq!(refused(r#"!Sub "${Gone""#), "Outputs.Wanted.Value: a `${` without its `}`");
    assert!(refused("!GetAtt Gone").contains("needs a resource and an attribute"));
    assert!(refused("!Ref [Gone]").contains("!Ref takes one text"));
}

#[test]
fn an_attribute_that_the_type_does_not_have_is_named() {
    let yaml = "
Resources: { Queue: { Type: 'AWS::SQS::Queue', Properties: { QueueName: jobs } } }
Outputs: { Wanted: { Value: !GetAtt Queue.Size } }";
    assert_eq!(refusal(yaml), "Outputs.Wanted.Value: there is nothing named Queue.Size to refer to");
}

#[test]
fn a_name_that_leads_back_to_itself_is_refused() {
    let yaml =
        "Resources: { Queue: { Type: 'AWS::SQS::Queue', Properties: { QueueName: !GetAtt Queue.Arn } } }";
    let refused = refusal(yaml);
    assert_eq!(refused, "Resources.Queue.Properties.QueueName: the references lead back to themselves");
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let refused = refusal("Resources:\n  Queue: { Type: a }\n  Queue: { Type: b }\n");
    assert!(refused.contains("duplicate entry"), "{refused}");
}

#[test]
fn text_that_is_no_template_is_refused() {
    assert!(refusal("Resources: [").starts_with("the template is not valid YAML"));
    assert!(refusal("Resources: { 5: x }").starts_with("Resources: a key that is not text"));
    assert_eq!(refusal("{}"), "Resources is missing");
    assert!(refusal("[]").contains("expected a mapping"));
}

#[test]
fn parameters_take_the_given_value_and_else_the_default() {
    let yaml = "
Parameters: { Limit: { Type: Number, Default: 7, MinValue: 2, MaxValue: 9 } }
Resources: {}
Outputs: { Limit: { Value: !Ref Limit } }";
    let given = |value: &str| Names { parameters: [("Limit".into(), value.into())].into(), ..names() };
    let template = Template::parse(yaml).unwrap();
    assert_eq!(template.stack(&names()).unwrap().outputs["Limit"], "7");
    assert_eq!(template.stack(&given("9")).unwrap().outputs["Limit"], "9");
    assert_eq!(refusal_for(yaml, &given("1")), "parameter Limit: it is 1, the least is 2");
    assert_eq!(refusal_for(yaml, &given("10")), "parameter Limit: it is 10, the most is 9");
    assert_eq!(refusal_for(yaml, &given("x")), "parameter Limit: `x` is not a whole number");
}

#[test]
fn parameters_that_are_missing_unknown_or_forbidden_are_named() {
    let yaml = "
Parameters:
  Issuer: { Type: String, MinLength: 3, MaxLength: 5 }
  Processor: { Type: String, Default: arm64, AllowedValues: [arm64, x86_64] }
Resources: {}";
    let given = |pairs: &[(&str, &str)]| {
        let parameters = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        refusal_for(yaml, &Names { parameters, ..names() })
    };
    assert_eq!(given(&[]), "parameter Issuer: it has no default and no value was given");
    assert_eq!(given(&[("Isuer", "x")]), "parameter Isuer: the template has no such parameter");
    assert_eq!(given(&[("Issuer", "ab")]), "parameter Issuer: its length is 2, the least is 3");
    assert_eq!(given(&[("Issuer", "abcdef")]), "parameter Issuer: its length is 6, the most is 5");
    assert_eq!(
        given(&[("Issuer", "abc"), ("Processor", "mips")]),
        "parameter Processor: `mips` is none of arm64, x86_64"
    );
    let yaml = "Parameters: { Vpc: { Type: 'AWS::EC2::VPC::Id', Default: x } }\nResources: {}";
    assert!(refusal(yaml).starts_with("Parameters.Vpc: AWS::EC2::VPC::Id is not known here"));
}

#[test]
fn a_table_becomes_a_create_table_request() {
    let yaml = r#"
Resources:
  Jobs:
    Type: AWS::DynamoDB::Table
    DeletionPolicy: Retain
    Properties:
      TableName: !Sub "${AWS::StackName}-jobs"
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{ AttributeName: pk, AttributeType: S }]
      KeySchema: [{ AttributeName: pk, KeyType: HASH }]
      StreamSpecification: { StreamViewType: NEW_AND_OLD_IMAGES }
      TimeToLiveSpecification: { AttributeName: ttl, Enabled: true }
      PointInTimeRecoverySpecification: { PointInTimeRecoveryEnabled: true }
      SSESpecification: { SSEEnabled: true, SSEType: KMS }
      DeletionProtectionEnabled: "true"
"#;
    let table = &stack(yaml).tables[0];
    assert_eq!((table.logical_id.as_str(), table.name.as_str()), ("Jobs", "dark-jobs"));
    assert_eq!(table.ttl_attribute.as_deref(), Some("ttl"));
    assert_eq!(
        table.create_table,
        json!({
            "TableName": "dark-jobs",
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{ "AttributeName": "pk", "AttributeType": "S" }],
            "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }],
            "StreamSpecification": { "StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES" },
            "SSESpecification": { "Enabled": true, "SSEType": "KMS" },
            "DeletionProtectionEnabled": true,
        })
    );
    let off = stack(&yaml.replace("ttl, Enabled: true", "ttl, Enabled: false"));
    assert_eq!(off.tables[0].ttl_attribute, None);
}

#[test]
fn queues_keep_their_attributes_and_find_their_dead_letter_queue() {
    let yaml = r#"
Resources:
  Dead: { Type: "AWS::SQS::Queue", Properties: { QueueName: dead, MessageRetentionPeriod: 1209600 } }
  Jobs:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: jobs
      VisibilityTimeout: 1380
      SqsManagedSseEnabled: true
      RedrivePolicy: { deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 5 }
"#;
    let stack = stack(yaml);
    let jobs = stack.queue("Jobs").unwrap();
    assert_eq!(jobs.redrive, Some(Redrive { dead_letter_queue: "Dead".into(), receives_max: 5 }));
    assert_eq!(jobs.arn, "arn:aws:sqs:eu-central-1:123456789012:jobs");
    assert_eq!(jobs.url, "http://127.0.0.1:9324/123456789012/jobs");
    assert_eq!(
        jobs.attributes["RedrivePolicy"],
        r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-central-1:123456789012:dead","maxReceiveCount":5}"#
    );
    assert_eq!(jobs.attributes["VisibilityTimeout"], "1380");
    assert_eq!(jobs.attributes["SqsManagedSseEnabled"], "true");
    assert!(!jobs.attributes.contains_key("QueueName"));
    assert_eq!(stack.queue("Dead").unwrap().redrive, None);
}

#[test]
fn kms_keys_are_found_by_their_aliases() {
    let yaml = r#"
Resources:
  Key: { Type: "AWS::KMS::Key", Properties: { EnableKeyRotation: true, KeyPolicy: {}, PendingWindowInDays: 30 } }
  Alias: { Type: "AWS::KMS::Alias", Properties: { AliasName: !Sub "alias/${AWS::StackName}-x", TargetKeyId: !Ref Key } }
"#;
    let stack = stack(yaml);
    let key = stack.kms_key("Key").unwrap();
    let arn = "arn:aws:kms:eu-central-1:123456789012:key/dark-Key";
    assert_eq!((key.id.as_str(), key.arn.as_str()), ("dark-Key", arn));
    assert_eq!(stack.kms_aliases, [KmsAlias { name: "alias/dark-x".into(), key_logical_id: "Key".into() }]);
    let refused = refusal(&yaml.replace("!Ref Key", "!Ref Alias"));
    assert!(refused.contains("there is nothing named alias/dark-x to refer to"), "{refused}");
    let refused = refusal(&yaml.replace("EnableKeyRotation: true", "MultiRegion: true"));
    assert!(refused.contains("MultiRegion is not known here"), "{refused}");
}

const FUNCTION: &str = r#"
Globals:
  Function:
    Runtime: provided.al2023
    MemorySize: 256
    LoggingConfig: { LogFormat: JSON, ApplicationLogLevel: INFO }
    Environment: { Variables: { SHARED: global, OWN: global } }
Resources:
  Api:
    Type: AWS::Serverless::HttpApi
    Properties: { Auth: { DefaultAuthorizer: Jwt } }
  Queue: { Type: "AWS::SQS::Queue", Properties: { QueueName: jobs } }
  Role:
    Type: AWS::IAM::Role
    Properties:
      Policies:
        - PolicyName: worker
          PolicyDocument:
            Statement:
              - { Effect: Allow, Action: "sqs:SendMessage", Resource: !GetAtt Queue.Arn }
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: !Sub "${AWS::StackName}-worker"
      Handler: worker
      Role: !GetAtt Role.Arn
      Timeout: 230
      MemorySize: 512
      LoggingConfig: { LogGroup: logs }
      ReservedConcurrentExecutions: 3
      Environment: { Variables: { OWN: 5 } }
      EventInvokeConfig: { MaximumRetryAttempts: 0, MaximumEventAgeInSeconds: 60 }
      Events:
        Read: { Type: HttpApi, Properties: { ApiId: !Ref Api, Method: get, Path: "/v1/jobs/{id}" } }
        Health:
          { Type: HttpApi, Properties: { ApiId: !Ref Api, Method: GET, Path: /health, Auth: { Authorizer: NONE } } }
        Jobs:
          Type: SQS
          Properties:
            Queue: !GetAtt Queue.Arn
            BatchSize: 10
            FunctionResponseTypes: [ReportBatchItemFailures]
            ScalingConfig: { MaximumConcurrency: "4" }
        Clock: { Type: Schedule, Properties: { Schedule: rate(1 minute) } }
"#;

fn function(yaml: &str) -> Function {
    stack(yaml).function("Worker").unwrap().clone()
}

#[test]
fn a_function_has_its_own_settings_over_the_global_ones() {
    let worker = function(FUNCTION);
    assert_eq!((worker.name.as_str(), worker.binary.as_str()), ("dark-worker", "worker"));
    assert_eq!(worker.timeout, Duration::from_secs(230));
    assert_eq!(worker.memory_mb, 512);
    assert_eq!(worker.reserved_concurrency, Some(3));
    assert_eq!(worker.environment, [("OWN".into(), "5".into()), ("SHARED".into(), "global".into())].into());
    assert_eq!((worker.logging.format.as_str(), worker.logging.level.as_str()), ("JSON", "INFO"));
    assert_eq!(
        worker.policy_statements,
        [Statement {
            effect: "Allow".into(),
            actions: vec!["sqs:SendMessage".into()],
            resources: vec!["arn:aws:sqs:eu-central-1:123456789012:jobs".into()],
            conditions: Vec::new(),
        }]
    );
}

#[test]
fn routes_are_authorized_unless_they_say_none() {
    let route = |key: &str, auth| Route { key: key.into(), auth };
    assert_eq!(function(FUNCTION).routes, [route("GET /health", false), route("GET /v1/jobs/{id}", true)]);
    let open = FUNCTION.replace("{ Auth: { DefaultAuthorizer: Jwt } }", "{}");
    assert!(function(&open).routes.iter().all(|route| !route.auth));
}

#[test]
fn an_event_without_method_and_path_is_the_default_route() {
    let read =
        "Read: { Type: HttpApi, Properties: { ApiId: !Ref Api, Method: get, Path: \"/v1/jobs/{id}\" } }";
    assert!(FUNCTION.contains(read));
    let default = FUNCTION.replace(read, "Else: { Type: HttpApi, Properties: { ApiId: !Ref Api } }");
    assert_eq!(function(&default).routes[0], Route { key: "$default".into(), auth: true });
    for (one, missing) in [("Method: get", "Path"), ("Path: /v1", "Method")] {
        let half = format!("Else: {{ Type: HttpApi, Properties: {{ ApiId: !Ref Api, {one} }} }}");
        let refused = refusal(&FUNCTION.replace(read, &half));
        assert_eq!(
            refused,
            format!("Resources.Worker.Properties.Events.Else.Properties.{missing} is missing")
        );
    }
}

#[test]
fn limits_of_the_api_are_numbers() {
    let with = |settings: &str| FUNCTION.replace("{ Auth: { DefaultAuthorizer: Jwt } }", settings);
    let limited = "{ DefaultRouteSettings: { ThrottlingRateLimit: 5, ThrottlingBurstLimit: '9' } }";
    assert_eq!(function(&with(limited)).routes.len(), 2);
    let refused = refusal(&with("{ DefaultRouteSettings: { ThrottlingRateLimit: many } }"));
    assert!(refused.contains("ThrottlingRateLimit: expected a whole number"), "{refused}");
    let refused = refusal(&with("{ DefaultRouteSettings: { DetailedMetricsEnabled: true } }"));
    assert!(refused.contains("DetailedMetricsEnabled is not known here"), "{refused}");
}

#[test]
fn a_policys_conditions_are_read() {
    let condition = r#"
                Condition:
                  "ForAllValues:StringLike": { "dynamodb:LeadingKeys": [MODEL, "SCOPE#*"] }
                  "Null": { "dynamodb:LeadingKeys": "false" }"#;
    let conditional = FUNCTION.replace(
        r#"{ Effect: Allow, Action: "sqs:SendMessage", Resource: !GetAtt Queue.Arn }"#,
        &format!(
            "Effect: Allow\n                Action: sqs:SendMessage\n                Resource: '*'{condition}"
        ),
    );
    let read = |operator: &str, values: &[&str]| Condition {
        operator: operator.into(),
        key: "dynamodb:LeadingKeys".into(),
        values: values.iter().map(|value| (*value).into()).collect(),
    };
    assert_eq!(
        function(&conditional).policy_statements[0].conditions,
        [read("ForAllValues:StringLike", &["MODEL", "SCOPE#*"]), read("Null", &["false"])]
    );
    let refused = refusal(&conditional.replace("ForAllValues:StringLike", "ForAllValue:StringLike"));
    assert!(refused.contains("ForAllValue:StringLike is not known here"), "{refused}");
}

#[test]
fn rules_refuse_values_that_do_not_go_together() {
    let yaml = |assert: &str| {
        format!(
            "
Parameters: {{ Attempts: {{ Type: Number, Default: 2 }}, Calls: {{ Type: Number, Default: 3 }} }}
Rules: {{ Enough: {{ Assertions: [{{ Assert: {assert}, AssertDescription: too few calls }}] }} }}
Resources: {{}}"
        )
    };
    for (assert, holds) in [
        ("{ 'Fn::Equals': [!Ref Attempts, '2'] }", true),
        ("{ 'Fn::Equals': [!Ref Attempts, !Ref Calls] }", false),
        ("{ 'Fn::Contains': [['3', '4'], !Ref Calls] }", true),
        ("{ 'Fn::Contains': [[4, 5], !Ref Calls] }", false),
        ("{ 'Fn::Not': [{ 'Fn::Equals': [!Ref Attempts, !Ref Calls] }] }", true),
        ("{ 'Fn::And': [{ 'Fn::Equals': [a, a] }, { 'Fn::Equals': [a, b] }] }", false),
        ("{ 'Fn::And': [{ 'Fn::Equals': [a, a] }, { 'Fn::Equals': [b, b] }] }", true),
        ("{ 'Fn::Or': [{ 'Fn::Equals': [a, b] }, { 'Fn::Equals': [b, b] }] }", true),
        ("{ 'Fn::Or': [{ 'Fn::Equals': [a, b] }, { 'Fn::Equals': [b, c] }] }", false),
    ] {
        let read = Template::parse(&yaml(assert)).unwrap().stack(&names());
        match (read, holds) {
            (Ok(_), true) => {}
            (Err(error), false) => assert_eq!(error.to_string(), "rule Enough: too few calls", "{assert}"),
            (read, _) => panic!("{assert}: {read:?}"),
        }
    }
    for (assert, words) in [
        ("{ 'Fn::EachMemberIn': [[a], [a]] }", "the intrinsic function Fn::EachMemberIn is not known here"),
        ("{ 'Fn::Equals': [!Ref Gone, a] }", "there is nothing named Gone to refer to"),
        ("{ 'Fn::Equals': [{ 'Fn::Sub': a }, a] }", "the intrinsic function Fn::Sub is not known here"),
        ("{ 'Fn::Equals': [a] }", "as many arguments as the function takes"),
        ("{ 'Fn::And': [{ 'Fn::Equals': [a, a] }] }", "as many arguments as the function takes"),
    ] {
        let refused = refusal(&yaml(assert));
        assert!(refused.contains(words), "{assert}: {refused}");
    }
    // A rule whose condition does not hold asks nothing.
    let never = yaml("{ 'Fn::Equals': [a, b] }")
        .replace("Enough: {", "Enough: { RuleCondition: { 'Fn::Equals': [a, c] },");
    Template::parse(&never).unwrap().stack(&names()).unwrap();
    let refused = refusal(&never.replace("RuleCondition", "Condition"));
    assert!(refused.contains("Condition is not known here"), "{refused}");
}

#[test]
fn a_buckets_cross_origin_rules_are_read() {
    let yaml = r#"
Parameters: { Origin: { Type: String, Default: "https://app.example" } }
Resources:
  Images:
    Type: AWS::S3::Bucket
    Properties:
      BucketName: images
      CorsConfiguration: { CorsRules: [{ AllowedOrigins: [!Ref Origin], AllowedMethods: [GET], AllowedHeaders: [content-type], MaxAge: 60 }] }
"#;
    let rule = CorsRule {
        allowed_origins: vec!["https://app.example".into()],
        allowed_methods: vec!["GET".into()],
        allowed_headers: vec!["content-type".into()],
        max_age: Duration::from_mins(1),
    };
    assert_eq!(stack(yaml).buckets[0].cors, [rule]);
    let refused = refusal(&yaml.replace("MaxAge: 60", "ExposedHeaders: [ETag]"));
    assert!(refused.contains("ExposedHeaders is not known here"), "{refused}");
}

#[test]
fn the_queue_source_is_read() {
    let source = function(FUNCTION).queue_source.unwrap();
    assert_eq!((source.queue_logical_id.as_str(), source.batch_size), ("Queue", 10));
    assert_eq!((source.maximum_concurrency, source.report_batch_item_failures), (Some(4), true));
    assert_eq!(source.batching_window, Duration::ZERO);

    let size = "            BatchSize: 10\n";
    let window = FUNCTION.replace(size, &format!("{size}            MaximumBatchingWindowInSeconds: 5\n"));
    assert_eq!(function(&window).queue_source.unwrap().batching_window, Duration::from_secs(5));

    let without = FUNCTION.replace("            FunctionResponseTypes: [ReportBatchItemFailures]\n", "");
    assert!(!function(&without).queue_source.unwrap().report_batch_item_failures);
}

#[test]
fn the_schedule_follows_what_lambda_does_about_failures() {
    let minute = Duration::from_mins(1);
    assert_eq!(
        function(FUNCTION).schedule,
        Some(Schedule { every: minute, retry_attempts: 0, maximum_event_age: minute })
    );
    let config = "      EventInvokeConfig: { MaximumRetryAttempts: 0, MaximumEventAgeInSeconds: 60 }\n";
    assert_eq!(
        function(&FUNCTION.replace(config, "")).schedule,
        Some(Schedule { every: minute, retry_attempts: 2, maximum_event_age: Duration::from_hours(6) })
    );
    let every = |rate: &str| function(&FUNCTION.replace("rate(1 minute)", rate)).schedule.unwrap().every;
    assert_eq!(every("rate(5 minutes)"), Duration::from_mins(5));
    assert_eq!(every("rate(2 hours)"), Duration::from_hours(2));
    for wrong in ["rate(0 minutes)", "rate(1 week)", "cron(* * * * ? *)", "rate(1)"] {
        let refused = refusal(&FUNCTION.replace("rate(1 minute)", wrong));
        assert!(refused.contains("expected a rate such as `rate(1 minute)`"), "{wrong}: {refused}");
    }
}

/// What is not understood would make the local system differ from the deployed one without a word.
#[test]
fn whatever_is_not_known_is_refused_by_name() {
    for (known, unknown, name) in [
        ("Globals:", "Conditions: {}\nGlobals:", "Conditions"),
        ("  Function:\n    Runtime", "  HttpApi: {}\n  Function:\n    Runtime", "HttpApi"),
        ("AWS::Serverless::HttpApi", "AWS::SNS::Topic", "AWS::SNS::Topic"),
        ("{ QueueName: jobs }", "{ QueueName: jobs, FifoQueue: true }", "FifoQueue"),
        ("      Handler: worker", "      Handler: worker\n      Layers: [x]", "Layers"),
        ("BatchSize: 10", "BatchSize: 10\n            FilterCriteria: {}", "FilterCriteria"),
        ("Type: Schedule", "Type: SNS", "SNS"),
        ("{ Schedule: rate(1 minute) }", "{ Schedule: rate(1 minute), Input: x }", "Input"),
        ("Path: /health", "Path: /health, TimeoutInMillis: 5", "TimeoutInMillis"),
        ("{ Effect: Allow,", "{ Effect: Allow, NotResource: x,", "NotResource"),
        ("{ Effect: Allow,", "{ Effect: Allow, NotAction: x,", "NotAction"),
        ("      Policies:\n", "      ManagedPolicyArns: [x]\n      Policies:\n", "ManagedPolicyArns"),
        ("    Type: AWS::IAM::Role", "    Type: AWS::IAM::Role\n    DependsOn: Queue", "DependsOn"),
    ] {
        let refused = refusal(&FUNCTION.replacen(known, unknown, 1));
        assert!(refused.contains(&format!("{name} is not known here")), "{name}: {refused}");
    }
}

#[test]
fn what_must_be_there_is_named_when_it_is_not() {
    for (line, place) in [
        ("      Timeout: 230\n", "Resources.Worker.Properties.Timeout is missing"),
        ("      Handler: worker\n", "Resources.Worker.Properties.Handler is missing"),
        (
            "            BatchSize: 10\n",
            "Resources.Worker.Properties.Events.Jobs.Properties.BatchSize is missing",
        ),
    ] {
        assert_eq!(refusal(&FUNCTION.replace(line, "")), place);
    }
    assert_eq!(
        refusal(&FUNCTION.replace("Timeout: 230", "Timeout: long")),
        r#"Resources.Worker.Properties.Timeout: expected a whole number, found "long""#
    );
}

#[test]
fn the_tree_is_the_json_form_and_can_be_read_back() {
    let template = Template::parse(FUNCTION).unwrap();
    let worker = &template.tree()["Resources"]["Worker"]["Properties"];
    assert_eq!(worker["Role"], json!({ "Fn::GetAtt": ["Role", "Arn"] }));
    assert_eq!(worker["FunctionName"], json!({ "Fn::Sub": "${AWS::StackName}-worker" }));
    let again = Template::from_tree(template.tree().clone());
    assert_eq!(again.stack(&names()).unwrap(), template.stack(&names()).unwrap());
}

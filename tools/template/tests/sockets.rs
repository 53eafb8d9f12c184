//! The WebSocket API and the stream's event source: what is understood, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use darkroom_template::{Names, Stack, StreamSource, Template, TemplateError, WebSocketApi};

const TEMPLATE: &str = r#"
Resources:
  Jobs: { Type: "AWS::DynamoDB::Table", Properties: { TableName: jobs } }
  Role: { Type: "AWS::IAM::Role", Properties: { Policies: [] } }
  Teller:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: teller
      Handler: teller
      Role: !GetAtt Role.Arn
      Timeout: 60
      MemorySize: 256
      LoggingConfig: { LogFormat: JSON, ApplicationLogLevel: INFO }
      Environment: { Variables: { URL: !Sub "${Sockets.ApiEndpoint}/${Stage}" } }
      Events:
        Changes:
          Type: DynamoDB
          Properties:
            Stream: !GetAtt Jobs.StreamArn
            StartingPosition: TRIM_HORIZON
            BatchSize: 100
            BisectBatchOnFunctionError: true
            MaximumRetryAttempts: 5
            MaximumRecordAgeInSeconds: 300
            FunctionResponseTypes: [ReportBatchItemFailures]
  Sockets:
    Type: AWS::ApiGatewayV2::Api
    Properties: { Name: sockets, ProtocolType: WEBSOCKET, RouteSelectionExpression: $request.body.type }
  Stage: { Type: "AWS::ApiGatewayV2::Stage", Properties: { ApiId: !Ref Sockets, StageName: live, AutoDeploy: true } }
  Connect:
    Type: AWS::ApiGatewayV2::Route
    Properties: { ApiId: !Ref Sockets, RouteKey: $connect, Target: !Sub "integrations/${Integration}" }
  Integration:
    Type: AWS::ApiGatewayV2::Integration
    Properties:
      ApiId: !Ref Sockets
      IntegrationType: AWS_PROXY
      IntegrationUri: !Sub "arn:aws:apigateway:x:lambda:path/2015-03-31/functions/${Teller.Arn}/invocations"
"#;

fn read(yaml: &str) -> Result<Stack, TemplateError> {
    Template::parse(yaml)?.stack(&Names {
        stack: "dark".into(),
        region: "eu-central-1".into(),
        account: "123456789012".into(),
        partition: "aws".into(),
        queue_url_prefix: "http://127.0.0.1:9324".into(),
        api_url: "http://127.0.0.1:3000".into(),
        parameters: [].into(),
    })
}

/// What is said of the template in which this is put in the place of that.
fn refusal(known: &str, other: &str) -> String {
    assert!(TEMPLATE.contains(known), "{known}");
    read(&TEMPLATE.replacen(known, other, 1)).expect_err("it was accepted").to_string()
}

#[test]
fn the_stream_s_source_and_the_websocket_api_are_read() {
    let stack = read(TEMPLATE).unwrap();
    let teller = stack.function("Teller").unwrap();
    assert_eq!(
        teller.stream_source,
        Some(StreamSource {
            table_logical_id: "Jobs".into(),
            from_the_oldest: true,
            batch_size: 100,
            bisect: true,
            retry_attempts: 5,
            maximum_record_age: Duration::from_secs(300),
            report_batch_item_failures: true,
        })
    );
    assert_eq!(
        stack.websocket,
        Some(WebSocketApi {
            logical_id: "Sockets".into(),
            stage: "live".into(),
            routes: vec!["$connect".into()],
            function_logical_id: "Teller".into(),
        })
    );
    assert_eq!(teller.environment["URL"], "ws://127.0.0.1:3000/live");
    let latest = read(&TEMPLATE.replace("TRIM_HORIZON", "LATEST")).unwrap();
    assert!(!latest.function("Teller").unwrap().stream_source.as_ref().unwrap().from_the_oldest);
}

#[test]
fn what_the_local_system_would_do_otherwise_is_refused() {
    for (known, other, words) in [
        ("            MaximumRetryAttempts: 5\n", "", "MaximumRetryAttempts is missing"),
        ("            MaximumRecordAgeInSeconds: 300\n", "", "MaximumRecordAgeInSeconds is missing"),
        ("TRIM_HORIZON", "AT_TIMESTAMP", "expected TRIM_HORIZON or LATEST"),
        ("BatchSize: 100", "BatchSize: 100\n            FilterCriteria: {}", "FilterCriteria is not known"),
        ("!GetAtt Jobs.StreamArn", "arn:other", "nothing named arn:other"),
        ("WEBSOCKET", "HTTP", "expected WEBSOCKET"),
        ("RouteKey: $connect", "RouteKey: sync", "expected $connect, $default or $disconnect"),
        ("RouteKey: $connect", "RouteKey: $connect, ApiKeyRequired: true", "ApiKeyRequired is not known"),
        ("\"integrations/${Integration}\"", "integrations/other", "nothing named integrations/other"),
        ("functions/${Teller.Arn}", "functions/arn:other", "functions/arn:other/invocations"),
        (
            "AWS::ApiGatewayV2::Stage\", Properties: { ApiId: !Ref Sockets",
            "AWS::ApiGatewayV2::Stage\", Properties: { ApiId: other",
            "stage is missing",
        ),
        ("AutoDeploy: true", "AutoDeploy: true, ClientCertificateId: x", "ClientCertificateId is not known"),
        (
            "IntegrationType: AWS_PROXY",
            "IntegrationType: AWS_PROXY\n      TimeoutInMillis: 50",
            "TimeoutInMillis is not known",
        ),
    ] {
        let refused = refusal(known, other);
        assert!(refused.contains(words), "{other}: {refused}");
    }
}

#[test]
fn one_websocket_api_is_all_that_there_can_be() {
    let second = TEMPLATE.replace(
        "  Stage:",
        "  Other:\n    Type: AWS::ApiGatewayV2::Api\n    Properties: { Name: sockets, ProtocolType: WEBSOCKET, RouteSelectionExpression: x }\n  Stage:",
    );
    let refused = read(&second).expect_err("it was accepted").to_string();
    assert!(refused.contains("a second WebSocket API"), "{refused}");
}

"""Makes what ministack 1.5.33 leaves out when it deploys a SAM template, through the API that it has for it.

- A number that comes from a parameter stays a text, which its event source mappings trip over.
- It gives a WebSocket API an endpoint that begins with `http`; on AWS it begins with `wss`.
- It does not read the `Body` of an HTTP API: no route, no authorizer. They are made here from that same `Body`, as SAM
  wrote it from the template.

Argument: the stack's name. Prints the HTTP API's id.
"""

import re
import sys

import boto3

METHODS = {"x-amazon-apigateway-any-method": "ANY"}


class Stack:
    def __init__(self, name):
        cloudformation = boto3.client("cloudformation")
        self.template = cloudformation.get_template(StackName=name, TemplateStage="Processed")["TemplateBody"]
        described = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        resources = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
        _, _, _, region, account, _ = described["StackId"].split(":", 5)
        self.values = {"AWS::Partition": "aws", "AWS::Region": region, "AWS::StackName": name}
        self.values |= {one["ParameterKey"]: one["ParameterValue"] for one in described["Parameters"]}
        for resource in resources:
            logical, physical = resource["LogicalResourceId"], resource["PhysicalResourceId"]
            self.values[logical] = physical
            if resource["ResourceType"] == "AWS::Lambda::Function":
                self.values[f"{logical}.Arn"] = f"arn:aws:lambda:{region}:{account}:function:{physical}"

    def resolved(self, value):
        match value:
            case {"Ref": name}:
                return self.values[name]
            case {"Fn::Sub": text}:
                return re.sub(r"\$\{([^}]+)\}", lambda found: self.values[found[1]], text)
            case dict():
                return {key: self.resolved(inner) for key, inner in value.items()}
            case list():
                return [self.resolved(inner) for inner in value]
        return value

    def all_of(self, kind):
        resources = self.template["Resources"].items()
        return [(name, self.resolved(one["Properties"])) for name, one in resources if one["Type"] == kind]


def mappings(stack):
    lambdas = boto3.client("lambda")
    for name, properties in stack.all_of("AWS::Lambda::EventSourceMapping"):
        if "ScalingConfig" not in properties:
            continue
        most = int(properties["ScalingConfig"]["MaximumConcurrency"])
        uuid = stack.values[name]
        lambdas.update_event_source_mapping(UUID=uuid, ScalingConfig={"MaximumConcurrency": most})


def websocket_urls(stack):
    lambdas = boto3.client("lambda")
    functions = [name for name, one in stack.template["Resources"].items() if one["Type"] == "AWS::Lambda::Function"]
    for function in map(stack.values.get, functions):
        variables = lambdas.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        url = variables.get("DARKROOM_WEBSOCKET_URL", "")
        if url.startswith("http"):
            variables["DARKROOM_WEBSOCKET_URL"] = url.replace("http", "ws", 1)
            lambdas.update_function_configuration(FunctionName=function, Environment={"Variables": variables})


def authorizers(api, api_id, body):
    ids = {}
    for name, scheme in body["components"]["securitySchemes"].items():
        written = scheme["x-amazon-apigateway-authorizer"]
        assert written["type"] == "jwt", written
        made = api.create_authorizer(
            ApiId=api_id,
            Name=name,
            AuthorizerType="JWT",
            IdentitySource=[written["identitySource"]],
            JwtConfiguration={
                "Issuer": written["jwtConfiguration"]["issuer"],
                "Audience": written["jwtConfiguration"]["audience"],
            },
        )
        ids[name] = made["AuthorizerId"]
    return ids


def route(api, api_id, key, operation, authorizer_ids):
    written = operation["x-amazon-apigateway-integration"]
    integration = api.create_integration(
        ApiId=api_id,
        IntegrationType=written["type"].upper(),
        IntegrationMethod=written["httpMethod"],
        IntegrationUri=written["uri"],
        PayloadFormatVersion=written["payloadFormatVersion"],
    )
    asked = {"AuthorizationType": "NONE"}
    for name, scopes in operation["security"][0].items():
        if name != "NONE":
            asked = {"AuthorizationType": "JWT", "AuthorizerId": authorizer_ids[name], "AuthorizationScopes": scopes}
    api.create_route(ApiId=api_id, RouteKey=key, Target=f"integrations/{integration['IntegrationId']}", **asked)


def main(name):
    stack = Stack(name)
    mappings(stack)
    websocket_urls(stack)
    api = boto3.client("apigatewayv2")
    http = [one for one in stack.all_of("AWS::ApiGatewayV2::Api") if "Body" in one[1]]
    [(logical, properties)] = http
    api_id, body = stack.values[logical], properties["Body"]
    authorizer_ids = authorizers(api, api_id, body)
    for path, operations in body["paths"].items():
        for method, operation in operations.items():
            key = path if path == "$default" else f"{METHODS.get(method, method.upper())} {path}"
            route(api, api_id, key, operation, authorizer_ids)
    print(api_id)


main(*sys.argv[1:])

"""What manifests have to have beside the schema: `restricted.py FILE`, a rendered overlay.

- every pod keeps to the restricted pod security standard, and mounts no account's token;
- what selects pods finds some, what a pod mounts exists or is said to be made by hand;
- every Deployment has a Service, a PodDisruptionBudget, both probes and a NetworkPolicy.
"""
import sys

import yaml

# Secrets that are made by hand: the overlays say so.
BY_HAND = {"database", "database-migrations"}


def fail(what):
    sys.exit(f"{sys.argv[1]}: {what}")


def check_pod(name, pod, secrets):
    """The restricted standard, and what the pod refers to."""
    security = pod.get("securityContext", {})
    if not security.get("runAsNonRoot") or security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        fail(f"{name}: not restricted (runAsNonRoot, seccompProfile)")
    if pod.get("automountServiceAccountToken") is not False:
        fail(f"{name}: has an account's token")
    for container in pod["containers"]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities", {}).get("drop") != ["ALL"]:
            fail(f"{name}: not restricted (allowPrivilegeEscalation, capabilities)")
        if not own.get("readOnlyRootFilesystem"):
            fail(f"{name}: may write to its image")
        if not container.get("resources", {}).get("limits", {}).get("memory"):
            fail(f"{name}: no limit of memory")
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                fail(f"{name}: mounts {mount['name']}, which is no volume")
    for volume in pod.get("volumes", []):
        secret = volume.get("secret", {}).get("secretName")
        if secret and secret not in secrets | BY_HAND:
            fail(f"{name}: there is no secret {secret}")


def selects(selector, labels):
    """Whether a label selector finds these labels."""
    equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    among = all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", []))
    return equal and among


def main():
    with open(sys.argv[1]) as file:
        everything = list(yaml.safe_load_all(file))
    of_kind = lambda kind: [one for one in everything if one["kind"] == kind]
    secrets = {one["metadata"]["name"] for one in of_kind("Secret")}
    for one in of_kind("Deployment") + of_kind("Job"):
        name, template = one["metadata"]["name"], one["spec"]["template"]
        labels, pod = template["metadata"]["labels"], template["spec"]
        check_pod(name, pod, secrets)
        if not any(selects(policy["spec"]["podSelector"], labels) for policy in of_kind("NetworkPolicy")):
            fail(f"{name}: no NetworkPolicy")
        if one["kind"] == "Job":
            continue
        ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
        services = [service for service in of_kind("Service")
                    if selects({"matchLabels": service["spec"]["selector"]}, labels)]
        if not services or any(port["targetPort"] not in ports for service in services for port in service["spec"]["ports"]):
            fail(f"{name}: no Service that leads to one of {ports}")
        if not any(selects(budget["spec"]["selector"], labels) for budget in of_kind("PodDisruptionBudget")):
            fail(f"{name}: no PodDisruptionBudget")
        for probe in ("livenessProbe", "readinessProbe"):
            if pod["containers"][0].get(probe, {}).get("httpGet", {}).get("port") not in ports:
                fail(f"{name}: no {probe}")
    print(f"{len(everything)} objects of {sys.argv[1].rsplit('/', 1)[-1]}: restricted, and complete")


main()

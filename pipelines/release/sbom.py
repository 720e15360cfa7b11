"""The release's list of components (SBOM): the packages that this project runs on, as they are installed."""

# The library's decorators hide its classes from type checkers.
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false, reportArgumentType=false

from importlib.metadata import Distribution, PackageNotFoundError, distribution
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LONGEST_LICENCE = 80  # of a name; some packages put the whole text there
EXTRA = "export"  # of the project: it makes the release's graphs


def sbom(project: str, *, model: str, version: str) -> str:
    """CycloneDX 1.6 JSON of a model and of the installed packages that a project needs, without a date.

    Its serial number is a digest of the components, so that the same components give the same text.
    """
    found: dict[str, Distribution] = {}
    _collect(project, found, extra=EXTRA)
    main = Component(name=model, version=version, type=ComponentType.MACHINE_LEARNING_MODEL, bom_ref="model")
    components = {name: _component(name, package) for name, package in sorted(found.items())}
    bom = Bom(components=components.values())
    bom.metadata.component = main
    bom.register_dependency(main, [components[canonicalize_name(project)]])
    for name, package in found.items():
        extra = EXTRA if name == canonicalize_name(project) else ""
        needed = [components[other] for other in _requirements(package, extra) if other in components]
        bom.register_dependency(components[name], needed)
    listed = "\n".join(f"{name}=={package.version}" for name, package in sorted(found.items()))
    bom.serial_number = uuid5(NAMESPACE_URL, f"{model}=={version}\n{listed}")
    # A date would make each text another one; the library writes none where there is none.
    bom.metadata.timestamp = None
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)


def _collect(name: str, found: dict[str, Distribution], extra: str = "") -> None:
    """Add a package and all that it needs here, as far as it is installed."""
    try:
        package = distribution(name)
    except PackageNotFoundError:
        if found:
            return
        raise
    found[canonicalize_name(name)] = package
    for other in _requirements(package, extra):
        if other not in found:
            _collect(other, found)


def _requirements(package: Distribution, extra: str = "") -> list[str]:
    needed = map(Requirement, package.requires or ())
    return [
        canonicalize_name(r.name) for r in needed if r.marker is None or r.marker.evaluate({"extra": extra})
    ]


def _component(name: str, package: Distribution) -> Component:
    licence = package.metadata.get("License-Expression") or package.metadata.get("License") or ""
    named = 0 < len(licence) <= LONGEST_LICENCE and "\n" not in licence
    return Component(
        name=name,
        version=package.version,
        bom_ref=f"{name}=={package.version}",
        purl=PackageURL("pypi", name=name, version=package.version),
        licenses=[LicenseFactory().make_from_string(licence)] if named else [],
    )

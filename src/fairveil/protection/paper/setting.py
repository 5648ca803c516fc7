"""What the studies of chapter 3 share: who is protected, by which attack, and what differs from section 3.4."""

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

from fairveil.base.errors import did_you_mean
from fairveil.experiment.study import SYNTHETIC, Study, TrialType
from fairveil.faces.frbench import PREFIX
from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO
from fairveil.protection.lowkey import PRESETS, LowKey
from fairveil.protection.paper.people import People, at_hand

LITERAL = LowKey(canvas="photo")
"""The dissertation's algorithm as it was published, on the whole photo."""

FAST = LowKey(smoothing="alternate", mirror=False)
"""The dissertation's step, α and number of steps on the face alone, with smoothing in turns and without the mirrored
face: what two cores can afford."""


def _known(name: str) -> str:
    if name in ZOO or name.startswith(PREFIX):
        return name
    raise ValueError(f"the zoo has no recognizer {name!r}.{did_you_mean(name, ZOO)} It has {', '.join(ZOO)}")


RecognizerName = Annotated[str, AfterValidator(_known)]
"""A recognizer of the zoo or of frbench."""

DefenderName = Annotated[str, AfterValidator(lambda name: name if ":" in name else _known(name))]
"""The same, or a `Defender` as `package.module:NAME`."""


HUNDRED_USERS = People(data="facescrub", protected=100, drop_duplicates=True)
"""Section 3.4's users, with as many photos each as ours have."""

TWO_RECOGNIZERS = ("mobilefacenet-192", "mobileface")
"""The two fastest, for runs that take seconds."""


class PeopleSettings(BaseModel):
    """Settings that every study of the chapter has.

    Attributes:
        people: who is protected, among whom.
        seed: of the starting noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: People = People()
    seed: int = 0


class AttackSettings(PeopleSettings):
    """Settings of a study of one attack.

    Attributes:
        recognizers: the ensemble that is attacked.
        attack: settings of LowKey.
    """

    recognizers: tuple[RecognizerName, ...] = DEFAULT_ENSEMBLE
    attack: LowKey = PRESETS["medium"]


PeopleSettingsType = TypeVar("PeopleSettingsType", bound=PeopleSettings)
AttackType = TypeVar("AttackType", bound=BaseModel)
AttackSettingsType = TypeVar("AttackSettingsType", bound=AttackSettings)


class PeopleStudy(Study[PeopleSettingsType, TrialType]):
    """A study of people whose photos are protected."""

    def resolve(self, settings: PeopleSettingsType) -> PeopleSettingsType:
        """Settings with the people there are here."""
        return settings.model_copy(update={"people": at_hand(settings.people)})

    def data(self, settings: PeopleSettingsType) -> str:
        """Whose photos they are."""
        return settings.people.data


class AttackStudy(PeopleStudy[AttackSettingsType, TrialType]):
    """A study of one attack."""

    def differences(self, settings: AttackSettingsType) -> list[str]:
        """What differs from section 3.4."""
        return differences_of(settings.people, settings.attack)

    def rehearsal(self, settings: AttackSettingsType) -> AttackSettingsType:
        """The same on a few generated faces, one step each."""
        return settings.model_copy(update={"people": tiny(), "attack": with_steps(settings.attack, 1)})


def differences_of(people: People, attack: LowKey, gallery_photos: int | None = None) -> list[str]:
    """What differs from section 3.4 in these people, of whose photos so many stay in the gallery, and this attack."""
    gallery_photos = gallery_photos or people.gallery_photos
    said = [
        "Recognizers: pretrained ones of our zoo, small and made to run anywhere, instead of ResNet and IR networks of "
        "50 and 152 layers trained on MS-Celeb-1M, which we do not have. Some are of one family, so one "
        "that was left out of an ensemble may have a sibling in it.",
    ]
    if (people.protected, gallery_photos, people.probe_photos) != (100, None, None):
        said.append(
            f"People: {people.protected} users, {gallery_photos or 'all'} gallery photos and "
            f"{people.probe_photos or 'a tenth as'} probes each; in section 3.4, which most tables are of, 100 users "
            "and a tenth of their photos as probes."
        )
    if people.data == SYNTHETIC:
        said.append("Data: generated faces, so the figures say nothing of real people.")
    elif people.data not in ("facescrub", "umdfaces"):
        said.append(
            f"Data: {people.data} instead of FaceScrub or UMDFaces. Its gallery is far smaller than their 100,000 "
            "photos and more, so rank 50 is a much larger share of it and the harder test for a protection."
        )
    if attack.step_rule != "sign":
        said.append(
            f"Attack: as `fairveil protect` does it: {attack.steps} steps along the gradient instead of its sign, on "
            "the face alone, with little color."
        )
    elif attack.smoothing != "both" or not attack.mirror:
        said.append("Attack: smoothing in turns and no mirrored face (a quarter of the work), on the face alone.")
    said.append("The commercial services are not run; where published, their figures are shown.")
    return said


def tiny() -> People:
    """A few generated people, for runs that take seconds."""
    return People(
        data=SYNTHETIC,
        protected=2,
        gallery_photos=1,
        probe_photos=1,
        strangers=4,
        photos_of_stranger=1,
        synthetic_size=128,
    )


def with_steps(attack: AttackType, steps: int) -> AttackType:
    """The same attack with another number of steps."""
    return attack.model_copy(update={"steps": steps})

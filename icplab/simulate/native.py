"""Reads canonical tables, makes the files a CRM would have exported of the same market: Salesforce or HubSpot.

Identifiers, texts and numbers stay what they are, so that results can be compared; names, flags and shapes are the CRM's.
Tables that the CRM has no object for stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

PLANNED_AFTER_DAYS = 30  # an open opportunity carries a planned close date, so long after the last day known

# Canonical column = column of the export. What is not listed becomes a custom field under its own name.
_ACCOUNT = {
    "account_id": "Id", "name": "Name", "domain": "Website", "industry": "Industry", "employees": "NumberOfEmployees",
    "annual_revenue": "AnnualRevenue", "country": "BillingCountry", "founded_year": "YearStarted",
    "parent_account_id": "ParentId", "created_at": "CreatedDate", "account_type": "Type", "owner": "OwnerId",
}  # fmt: skip
_OPPORTUNITY = {
    "opportunity_id": "Id", "account_id": "AccountId", "created_at": "CreatedDate", "closed_at": "CloseDate",
    "stage": "StageName", "amount": "Amount", "currency": "CurrencyIsoCode", "type": "Type", "source": "LeadSource",
    "campaign_id": "CampaignId", "owner": "OwnerId",
}  # fmt: skip
_CONTACT = {
    "contact_id": "Id", "account_id": "AccountId", "title": "Title", "department": "Department", "email": "Email",
    "opted_out": "HasOptedOutOfEmail",
}  # fmt: skip
_CONTACT_ROLE = {
    "opportunity_id": "OpportunityId", "contact_id": "ContactId", "role": "Role", "is_primary": "IsPrimary",
}  # fmt: skip
_STAGE = {"opportunity_id": "OpportunityId", "stage": "StageName", "entered_at": "CreatedDate"}
_LEAD = {
    "lead_id": "Id", "created_at": "CreatedDate", "company": "Company", "source": "LeadSource", "campaign_id": "CampaignId",
    "status": "Status", "accepted_at": "ConvertedDate", "opportunity_id": "ConvertedOpportunityId",
}  # fmt: skip
_CAMPAIGN = {"campaign_id": "Id", "name": "Name", "channel": "Type", "started_at": "StartDate", "ended_at": "EndDate"}
_TASK = {
    "activity_id": "Id", "account_id": "AccountId", "occurred_at": "ActivityDate", "type": "Type", "contact_id": "WhoId",
    "outcome": "CallDisposition",
}  # fmt: skip
_USER = {"owner": "Id", "team": "Department", "role": "Title"}
_PRODUCT = {"product": "Name", "name": "Display_Name__c", "family": "Family"}
_CHANGE = {"field": "Field", "changed_at": "CreatedDate", "old_value": "OldValue", "new_value": "NewValue"}
_COMPANY = {
    "account_id": "hs_object_id", "domain": "domain", "employees": "numberofemployees", "annual_revenue": "annualrevenue",
    "parent_account_id": "hs_parent_company_id", "created_at": "createdate", "account_type": "type",
    "owner": "hubspot_owner_id", "linkedin_url": "linkedin_company_page",
}  # fmt: skip
_DEAL = {
    "opportunity_id": "hs_object_id", "account_id": "hs_primary_associated_company", "created_at": "createdate",
    "closed_at": "closedate", "stage": "dealstage", "currency": "deal_currency_code", "type": "dealtype",
    "source": "deal_source", "campaign_id": "hs_campaign_id", "owner": "hubspot_owner_id",
    "loss_reason": "closed_lost_reason",
}  # fmt: skip
_PERSON = {
    "contact_id": "hs_object_id", "account_id": "associatedcompanyid", "title": "jobtitle", "role": "hs_buying_role",
    "opted_out": "hs_email_optout",
}  # fmt: skip
_ACCOUNT_TYPES = {
    "prospect": "Prospect", "customer": "Customer - Direct", "former": "Former Customer",
    "partner": "Channel Partner / Reseller", "competitor": "Competitor",
}  # fmt: skip
_COMPANY_TYPES = {"former": "FORMER_CUSTOMER", "partner": "PARTNER", "competitor": "COMPETITOR"}
_LIFECYCLE = {"prospect": "lead", "customer": "customer", "former": "other", "partner": "other", "competitor": "other"}


def salesforce_files(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Data Export files by name, from canonical tables as text (`_as_text` of the workspace).

    Traits become custom fields (`<name>__c`); the status becomes `IsWon` and `IsClosed`, 1 or blank.
    """
    files = {name: table for name, table in tables.items() if name not in _SALESFORCE}
    for name, make in _SALESFORCE.items():
        if name in tables:
            files |= make(tables[name])
    return files


def hubspot_files(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Files of companies, deals (with the day each stage was entered) and contacts, with internal names."""
    files = {
        name: table for name, table in tables.items() if name not in ("accounts", "opportunities", "stage_history")
    }
    files["companies"] = _companies(tables["accounts"])
    files["deals"] = _deals(tables["opportunities"], tables.get("stage_history"))
    if "contacts" in tables:
        files["contacts"] = tables["contacts"].rename(columns=_PERSON).assign(firstname="")
    return files


def _custom(table: pd.DataFrame, names: Mapping[str, str], **added: pd.Series | str) -> pd.DataFrame:
    """A table under API names; columns without a standard field become custom ones."""
    new = {str(c): names.get(str(c), f"{c}__c") for c in table}
    table = table.rename(columns=new)
    if "CreatedDate" in table:
        table["CreatedDate"] = table["CreatedDate"].where(
            table["CreatedDate"].isna(), table["CreatedDate"] + "T00:00:00.000+0000"
        )
    return table.assign(**added)


def _accounts(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    table = table.assign(account_type=table["account_type"].map(_ACCOUNT_TYPES))
    return {"Account": _custom(table, _ACCOUNT, IsDeleted="", LastModifiedDate="", PhotoUrl="")}


def _opportunities(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    status = table["status"]
    table = _planned(table).assign(
        type=table["type"].map(
            {"new": "New Business", "expansion": "Existing Customer - Upgrade", "renewal": "Renewal"}
        )
    )
    flags = {"IsWon": status.map({"won": "1"}), "IsClosed": status.map({"won": "1", "lost": "1"})}
    probability = status.map({"won": "100", "lost": "0", "open": "50"})
    table = table.drop(columns="status")
    return {"Opportunity": _custom(table, _OPPORTUNITY, **flags, IsDeleted="", Probability=probability)}


def _planned(table: pd.DataFrame) -> pd.DataFrame:
    """Opportunities with a planned close date where they are open, as CRMs demand it."""
    known = pd.to_datetime(pd.concat([table["created_at"], table["closed_at"]]), format="%Y-%m-%d")
    planned = f"{known.max() + pd.Timedelta(days=PLANNED_AFTER_DAYS):%Y-%m-%d}"
    return table.assign(closed_at=table["closed_at"].mask(table["status"] == "open", planned))


def _leads(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    converted = table["status"] == "converted"
    account = table["account_id"]
    table = table.drop(columns="account_id").assign(
        ConvertedAccountId=account.where(converted), Matched_Account__c=account.mask(converted)
    )
    names = _LEAD | {n: n for n in ("ConvertedAccountId", "Matched_Account__c")}
    return {"Lead": _custom(table, names, IsConverted=converted.map({True: "1", False: ""}))}


def _tasks(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    if "minutes" in table:
        seconds = pd.to_numeric(table["minutes"]) * 60
        table = table.drop(columns="minutes").assign(CallDurationInSeconds=seconds.astype("Int64"))
    names = _TASK | {"CallDurationInSeconds": "CallDurationInSeconds"}
    return {"Task": _custom(table, names, WhatId="", Status="Completed")}


def _history(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Changes by object, fields under their API names."""
    files = {}
    for kind, file, key, names in (
        ("accounts", "AccountHistory", "AccountId", _ACCOUNT),
        ("opportunities", "OpportunityFieldHistory", "OpportunityId", _OPPORTUNITY),
    ):
        mine = table[table["object"] == kind].drop(columns="object")
        if len(mine):
            api = {f: names.get(f, f"{f}__c") for f in mine["field"].unique()}
            files[file] = _custom(mine.assign(field=mine["field"].map(api)), {**_CHANGE, "record_id": key})
    return files


def _simple(file: str, names: Mapping[str, str], **added: str) -> Callable[[pd.DataFrame], dict[str, pd.DataFrame]]:
    return lambda table: {file: _custom(table, names, **added)}


_SALESFORCE: dict[str, Callable[[pd.DataFrame], dict[str, pd.DataFrame]]] = {
    "accounts": _accounts,
    "opportunities": _opportunities,
    "contacts": _simple("Contact", _CONTACT, IsDeleted=""),
    "opportunity_contacts": _simple("OpportunityContactRole", _CONTACT_ROLE),
    "stage_history": _simple("OpportunityHistory", _STAGE),
    "leads": _leads,
    "activities": _tasks,
    "campaigns": _simple("Campaign", _CAMPAIGN, NumberSent=""),
    "products": _simple("Product2", _PRODUCT, Id="", ProductCode=""),
    "owners": _simple("User", _USER, Username="", IsActive="1"),
    "field_history": _history,
}


def _companies(table: pd.DataFrame) -> pd.DataFrame:
    kind = table["account_type"]
    table = table.assign(account_type=kind.map(_COMPANY_TYPES), lifecyclestage=kind.map(_LIFECYCLE))
    return table.rename(columns=_COMPANY)


def _deals(table: pd.DataFrame, stages: pd.DataFrame | None) -> pd.DataFrame:
    status = table["status"]
    types = {"new": "newbusiness", "expansion": "existingbusiness", "renewal": "renewal"}
    flags = {
        "hs_is_closed": status.map({"won": "true", "lost": "true", "open": "false"}),
        "hs_is_closed_won": status.map({"won": "true", "lost": "false", "open": "false"}),
    }
    if stages is not None:
        wide = stages.pivot(index="opportunity_id", columns="stage", values="entered_at").reindex(
            table["opportunity_id"]
        )
        flags |= {f"hs_date_entered_{stage}": pd.Series(wide[stage].to_numpy(), index=table.index) for stage in wide}
    table = _planned(table).assign(type=table["type"].map(types)).drop(columns="status")
    return table.rename(columns=_DEAL).assign(dealname="", **flags)

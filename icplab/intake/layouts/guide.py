"""Reads what the layouts know, makes EXPORT.md: which objects and fields to export from a CRM, as steps and as queries."""

from __future__ import annotations

# Fields of a query by object; the first two are enough for a first run.
QUERIES: dict[str, str] = {
    "Account": "Id, IsDeleted, MasterRecordId, Name, Type, ParentId, Website, Industry, NumberOfEmployees, AnnualRevenue,"
    " BillingCountry, YearStarted, OwnerId, CreatedDate, LastModifiedDate",
    "Opportunity": "Id, IsDeleted, AccountId, Name, StageName, IsClosed, IsWon, Amount, CloseDate, CreatedDate, Type,"
    " LeadSource, CampaignId, OwnerId, LastModifiedDate",
    "OpportunityHistory": "Id, OpportunityId, StageName, CreatedDate",
    "Contact": "Id, IsDeleted, MasterRecordId, AccountId, Title, Department, Email, HasOptedOutOfEmail, LastModifiedDate",
    "OpportunityContactRole": "Id, OpportunityId, ContactId, Role, IsPrimary",
    "Lead": "Id, IsDeleted, Company, Status, LeadSource, IsConverted, ConvertedDate, ConvertedAccountId,"
    " ConvertedOpportunityId, CreatedDate, LastModifiedDate",
    "Campaign": "Id, Name, Type, StartDate, EndDate, NumberSent",
    "CampaignMember": "Id, CampaignId, LeadId, ContactId, Status, FirstRespondedDate, CreatedDate",
    "Task": "Id, WhoId, WhatId, AccountId, ActivityDate, Status, Type, TaskSubtype, CallDurationInSeconds, CallDisposition",
    "Event": "Id, WhoId, WhatId, AccountId, ActivityDate, Type, DurationInMinutes",
    "Case": "Id, CaseNumber, AccountId, ContactId, CreatedDate, Type, Status",
    "AccountHistory": "Id, AccountId, Field, OldValue, NewValue, CreatedDate",
    "OpportunityFieldHistory": "Id, OpportunityId, Field, OldValue, NewValue, CreatedDate",
    "User": "Id, Username, Department, Title",
    "Product2": "Id, Name, ProductCode, Family",
    "DatedConversionRate": "IsoCode, StartDate, ConversionRate",
}
# Internal property names by object, with the label that an export with labels shows.
PROPERTIES: dict[str, str] = {
    "companies": "hs_object_id, name, domain, industry, numberofemployees, annualrevenue, country, lifecyclestage, type,"
    " hubspot_owner_id, createdate, hs_lastmodifieddate, hs_merged_object_ids, hs_parent_company_id",
    "deals": "hs_object_id, dealname, dealstage, pipeline, amount, amount_in_home_currency, deal_currency_code, createdate,"
    " closedate, hs_is_closed, hs_is_closed_won, dealtype, hs_analytics_source, hubspot_owner_id, closed_lost_reason,"
    " hs_primary_associated_company, hs_lastmodifieddate, hs_merged_object_ids, and all properties “Date entered …”",
    "contacts": "hs_object_id, firstname, email, jobtitle, hs_buying_role, associatedcompanyid, hs_email_optout,"
    " hs_lastmodifieddate, hs_merged_object_ids",
    "tickets": "hs_object_id, subject, hs_pipeline_stage, hs_ticket_category, createdate, hs_primary_associated_company",
}

_SALESFORCE = """# What to export from Salesforce

Put the CSV files into this folder; names do not matter, headers do. `Account` and `Opportunity` are enough for a first run,
each further object answers more questions. Export **all** records: lost and open opportunities, accounts nobody worked.

## As Data Export

Setup → Data Export → Export Now; encoding UTF-8; tick the objects below; unpack the archive here. Leave “replace carriage
returns” off. Formula and roll-up fields are not in it: take those from a report or a query.

## As reports

1. Accounts: report type *Accounts*, all accounts, all time. Add *Account ID*, *Created Date* and the fields that describe
   the account (industry, employees, country, website, your custom fields).
2. Opportunities: report type *Opportunities*, all opportunities, all time, status *any*. Add *Opportunity ID*, *Account ID*,
   *Created Date*, *Close Date*, *Stage*, *Won*, *Closed*, *Type*, *Lead Source*, and with several currencies *Amount*
   and *Amount (converted)*.
3. Export → *Details Only* → CSV (.csv), UTF-8. The footer may stay.

Always add the id columns: names are not unique. Never open and save the file in a spreadsheet: it damages ids and dates.

## As queries

For Workbench, the Salesforce CLI or Data Loader. Add your custom fields (`…__c`). `queryAll` (or `--all-rows`) also gives
deleted and merged records, with which old links can be followed.

"""
_HUBSPOT = """# What to export from HubSpot

Put the CSV or XLSX files into this folder; names do not matter, headers do. Companies and deals are enough for a first run.
Export **all** records: lost and open deals, companies nobody worked.

1. CRM → *Companies* → view *All companies* → *Export* → CSV, **all properties**, and under *Customize* include all
   associated records. Headers may be labels or internal names.
2. The same for *Deals* (all pipelines), *Contacts* and *Tickets*.
3. An archive of several files arrives by mail: unpack it here.

With deals keep the properties *Date entered “<stage>”*: they are the stage history. Never open and save a file in a
spreadsheet.

## Properties that are used

Beyond these, every property of companies and deals may become a trait; leave out what is private.

"""
_CSV = """# What to export

One CSV file per table, named as in `templates/`, with the columns found there. Only `accounts` and `opportunities` are
required. Every further column of accounts may become a trait. Other names and columns can be mapped in `icplab.toml`.
"""


def export_guide(system: str) -> str:
    """EXPORT.md for `salesforce`, `hubspot` or `csv`."""
    if system == "salesforce":
        queries = (f"```sql\nSELECT {fields}\nFROM {name}\n```" for name, fields in QUERIES.items())
        return _SALESFORCE + "\n\n".join(queries) + "\n"
    if system == "hubspot":
        return _HUBSPOT + "\n".join(f"- **{name}**: {fields}" for name, fields in PROPERTIES.items()) + "\n"
    return _CSV
